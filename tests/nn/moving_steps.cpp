// Steps that only move elements: every element is the right one, whether they are views or copy.
#include <limits>

#include <kdna/nn/value_operations.hpp>

#include "nn/moved_elements.hpp"
#include "support/errors.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// What a step copies, in PyTorch's order. Where it can be a view, the view has the same elements.
std::vector<float> moved(const operation& step, rng& r, const std::vector<nd_view<const float>>& in) {
    std::vector<nd_shape> shapes;
    for (const auto& x : in) shapes.push_back(x.shape);
    const nd_shape out = step.output_shape(shapes);
    const nd_frame y(r, out, any_nd_placement(r));
    const auto state = step.plan(shapes, {});
    step.run(*state, {.inputs = in, .output = y.view()});
    if (!y.guards_intact()) FAIL("wrote outside");
    const std::vector<float> found = values_of(y.view());
    if (const auto part = step.view_of(shapes, in.front().stride))
        if (values_of(nd_view<const float>{in.front().data + part->offset, out, part->stride}) != found)
            FAIL("other elements as a view");
    return found;
}

/// The elements source(index) of x, for every index of a shape.
template <class Source>
std::vector<float> chosen(const nd_view<const float>& x, const nd_shape& out, const Source& source) {
    std::vector<float> values;
    for_each_index(out, [&](const axis_numbers& i) { values.push_back(element(x, source(i))); });
    return values;
}

reshape_operation::rule always(const nd_shape& shape) {
    return [shape](std::span<const nd_shape>) { return shape; };
}

nd_shape shape_made(const operation& step, const std::vector<nd_shape>& in) { return step.output_shape(in); }

}  // namespace

TEST_CASE("A reshape keeps the order of elements, whatever the shapes and strides") {
    for (int i = 0; i < scaled(3000); ++i) {
        rng r(912, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 6, 60), t = shape_of_as_many(r, s);
        const nd_frame x(r, s, source_placement(r));
        number_elements(x);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " to ", to_string(t)));
        const reshape_operation step(always(t), "step");
        CHECK(shape_made(step, {s}) == t);
        if (moved(step, r, {x.view()}) != values_of(x.view())) FAIL("other elements");
    }
}

TEST_CASE("Expanding repeats elements") {
    for (int i = 0; i < scaled(500); ++i) {
        rng r(914, static_cast<std::uint64_t>(i));
        const nd_shape t = any_nd_shape(r, r.between(1, 5));
        std::vector<index_t> extents(t.extents().begin() + r.between(0, t.rank() - 1), t.extents().end());
        for (index_t& e : extents)
            if (r.chance(0.4)) e = 1;
        const nd_shape s(extents);
        const nd_frame x(r, s, source_placement(r));
        number_elements(x);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " to ", to_string(t)));
        const std::vector<float> expected = chosen(x.view(), t, [&](const axis_numbers& k) {
            axis_numbers from{};
            for (index_t a = 0; a < s.rank(); ++a)
                from[static_cast<std::size_t>(a)] =
                    s[a] == 1 ? 0 : k[static_cast<std::size_t>(a + t.rank() - s.rank())];
            return from;
        });
        if (moved(expand_operation(always(t), "step"), r, {x.view()}) != expected) FAIL("other elements");
    }
}

TEST_CASE("A permutation moves axes") {
    for (int i = 0; i < scaled(500); ++i) {
        rng r(919, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5));
        std::vector<index_t> axes;
        for (index_t a = 0; a < s.rank(); ++a)
            axes.insert(axes.begin() + r.between(0, static_cast<index_t>(axes.size())), a);
        const nd_frame x(r, s, source_placement(r));
        number_elements(x);
        const permute_operation step(axes, "step");
        const std::vector<float> expected = chosen(x.view(), shape_made(step, {s}), [&](const axis_numbers& k) {
            axis_numbers from{};
            for (std::size_t a = 0; a < axes.size(); ++a) from[static_cast<std::size_t>(axes[a])] = k[a];
            return from;
        });
        KDNA_TEST_CASE_INFO(i, to_string(s));
        if (moved(step, r, {x.view()}) != expected) FAIL("other elements");
    }
}

TEST_CASE("Inputs are put behind one another along an axis") {
    for (int i = 0; i < scaled(1000); ++i) {
        rng r(915, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5));
        const index_t axis = r.between(0, s.rank() - 1), count = r.between(1, 4);
        std::vector<nd_frame> in;
        std::vector<nd_view<const float>> views;
        std::vector<nd_shape> shapes;
        for (index_t k = 0; k < count; ++k) {
            nd_shape t = s;
            t[axis] = r.between(1, 20);
            in.emplace_back(r, t, source_placement(r));
            number_elements(in.back());
            shapes.push_back(t);
        }
        for (const nd_frame& x : in) views.push_back(x.view());
        const concat_operation step(axis, count, "step");
        std::vector<float> expected;
        for_each_index(shape_made(step, shapes), [&](axis_numbers k) {
            index_t& at = k[static_cast<std::size_t>(axis)];
            std::size_t which = 0;
            for (; at >= shapes[which][axis]; ++which) at -= shapes[which][axis];
            expected.push_back(element(views[which], k));
        });
        KDNA_TEST_CASE_INFO(i, concat(count, " like ", to_string(s), " along ", axis));
        if (moved(step, r, views) != expected) FAIL("other elements");
    }
}

TEST_CASE("A slice has the elements that Python's has") {
    for (int i = 0; i < scaled(1500); ++i) {
        rng r(916, static_cast<std::uint64_t>(i));
        const nd_shape s = any_nd_shape(r, r.between(1, 5), 7);
        const index_t axis = r.between(0, s.rank() - 1), extent_there = s[axis],
                      step = r.pick<index_t>({1, 1, 2, 3, 9, std::numeric_limits<index_t>::max()});
        const index_t start = r.between(-2 * extent_there, 2 * extent_there);
        const bool open = r.chance(0.3);
        const index_t stop = open ? 0 : r.between(-2 * extent_there, 2 * extent_there);
        // Python's rule, an element at a time: it counts from the end once, and then cuts off.
        std::vector<index_t> elements;
        const auto from_end = [&](index_t k) { return k < 0 ? k + extent_there : k; };
        for (index_t k = std::max<index_t>(from_end(start), 0); k < extent_there; k += std::min<index_t>(step, 100)) {
            if (!open && k >= from_end(stop)) break;
            elements.push_back(k);
        }
        const nd_frame x(r, s, source_placement(r));
        number_elements(x);
        KDNA_TEST_CASE_INFO(i, concat(to_string(s), " axis ", axis, " from ", start, " to ",
                                      open ? std::string("the end") : concat(stop), " by ", step));
        const slice_operation op(r.chance(0.5) ? axis : axis - s.rank(), start,
                                 open ? std::nullopt : std::optional<extent>(stop), step, "block.slice");
        if (elements.empty()) {
            check_error([&] { return shape_made(op, {s}); }, "block.slice",
                        concat("a part of the ", extent_there, " elements"), "elements");
            continue;
        }
        const nd_shape out = shape_made(op, {s});
        CHECK(out[axis] == static_cast<index_t>(elements.size()));
        const std::vector<float> expected = chosen(x.view(), out, [&](axis_numbers k) {
            index_t& at = k[static_cast<std::size_t>(axis)];
            at = elements[static_cast<std::size_t>(at)];
            return k;
        });
        if (moved(op, r, {x.view()}) != expected) FAIL("other elements");
    }
}

TEST_CASE("Steps that move elements refuse what does not fit, by name") {
    const nd_shape image{1, 6, 4, 4};
    constexpr index_t most = std::numeric_limits<index_t>::max(), least = std::numeric_limits<index_t>::min(),
                      half = most / 2 + 1;
    const auto flat = [&](const nd_shape& s) {
        return [&image, s] { return shape_made(reshape_operation(always(s), "flat"), {image}); };
    };
    check_error(flat({2, -1}), "flat", "extents >= 1", "[2, -1]");
    check_error(flat({5, 19}), "flat", "as many elements as [1, 6, 4, 4]", "[5, 19]");
    const auto expanded = [&](const nd_shape& s) {
        return [&image, s] { return shape_made(expand_operation(always(s), "wide"), {image}); };
    };
    check_error(expanded({0}), "wide", "extents >= 1", "[0]");
    check_error(expanded({6, 4, 4}), "wide", "[1, 6, 4, 4] can be expanded", "[6, 4, 4]");
    check_error(expanded({2, 1, 4, 4}), "wide", "[1, 6, 4, 4] can be expanded", "[2, 1, 4, 4]");
    check_error([] { return permute_operation({}, "turn"); }, "turn", "1 to 5 axes", "0");
    check_error([] { return permute_operation({0, 2, 2}, "turn"); }, "turn", "every axis once", "axis 2 twice");
    check_error([] { return permute_operation({0, 3, 1}, "turn"); }, "turn", "an axis from -3 to 2", "3");
    check_error(
        [&] {
            return shape_made(permute_operation({0, 1}, "turn"), {image});
        },
        "turn", "rank 2", "[1, 6, 4, 4]");
    check_error([] { return concat_operation(1, 0, "cat"); }, "cat inputs", "1 to 1024", "0");
    check_error([] { return concat_operation(-1, 1, "cat"); }, "cat", "counted from the first", "-1");
    const concat_operation cat(1, 2, "cat");
    check_error(
        [&] {
            return shape_made(cat, {image, {1, 6, 4, 5}});
        },
        "cat", "differ in axis 1 alone", "[1, 6, 4, 5]");
    check_error([&] { return shape_made(cat, {image, {1, 6, 4}}); }, "cat", "inputs of rank 4", "[1, 6, 4]");
    check_error([&] { return shape_made(concat_operation(4, 1, "cat"), {image}); }, "cat", "with an axis 4",
                "[1, 6, 4, 4]");
    check_error([&] { return shape_made(concat_operation(0, 2, "cat"), {{half}, {half}}); }, "cat", "fits", "");
    check_error([] { return slice_operation(0, 0, {}, 0, "part"); }, "part", "a step of at least 1", "0");
    check_error([&] { return shape_made(slice_operation(-5, 0, {}, 1, "part"), {image}); }, "part", "an axis", "-5");
    check_error([&] { return shape_made(slice_operation(2, least, {}, 1, "part"), {image}); }, "part", "below 2^31",
                "-");
    CHECK(shape_made(slice_operation(2, 0, {}, most, "part"), {image})[2] == 1);
}
