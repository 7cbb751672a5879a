// Macros of other libraries, defined before the headers of kdna: they change nothing in them, and are there again behind them.
#define check(x) KDNA_SEES_THIS(x)
#define verify(x) KDNA_SEES_THIS(x)
#define require(a, b) KDNA_SEES_THIS(a, b)
#define Assert(x) KDNA_SEES_THIS(x)
#define fail(x) KDNA_SEES_THIS(x)
#define abs(x) ((x) > 0 ? (x) : -(x))
#define move(y, x) KDNA_SEES_THIS(y, x)
#define erase() KDNA_SEES_THIS()
#define isnan(x) ((x) != (x))
#define F(x) KDNA_SEES_THIS(x)
#define near
#define far
#define small char
#define I KDNA_SEES_THIS
#define IN
#define OUT
#define ERROR 0
#define None 0L
#define N 1000

#include <kdna/kdna.hpp>

#if !defined(check) || !defined(verify) || !defined(require) || !defined(Assert) || !defined(fail) || !defined(abs) || \
    !defined(move) || !defined(erase) || !defined(isnan) || !defined(F) || !defined(near) || !defined(far) ||          \
    !defined(small) || !defined(I) || !defined(IN) || !defined(OUT) || !defined(ERROR) || !defined(None) || N != 1000
#error "a macro is gone behind the headers"
#endif

int main() {
    const std::vector<float> weights(4 * 4 * 9, 0.25F), input(4 * 5 * 5, 1.0F);
    const kdna::conv2d layer(kdna::dense_kernel::pack({.o = 4, .i = 4, .kh = 3, .kw = 3}, weights), {.pad = 1});
    const auto x = kdna::nchw_view(input.data(), 1, 4, 5, 5);
    auto plan = layer.plan(x.shape);
    kdna::tensor<float> y(plan.output_shape());
    // A member of the name of a function-like macro, in parentheses.
    (layer.check)(plan, x, y.view());
    layer.run(plan, x, y.view());
    return y(0, 0, 2, 2) == 9.0F ? 0 : 1;
}
