// A network that reads a stretch of a series and gives the stretch behind it, from a file that PyTorch wrote.
#pragma once

#include <array>
#include <chrono>
#include <common/numbers.hpp>
#include <filesystem>
#include <kdna/io/safetensors.hpp>
#include <kdna/load.hpp>
#include <span>

namespace forecast {

using kdna::index_t;

/// A network [N, 1, L] -> [N, 1, L] with a plan for N windows.
class forecaster {
public:
    /// Throws kdna::error unless the network takes and gives N series of one length.
    forecaster(const std::filesystem::path& file, index_t length, index_t windows, const kdna::plan_options& options)
        : weights_(kdna::load_safetensors(file)),
          net_(kdna::load(weights_, file.string())),
          shape_({windows, 1, length}),
          plan_(net_.plan(std::array{shape_}, options)) {
        if (plan_.output_shape(0) != shape_)
            throw kdna::error(file.string(), kdna::concat("a forecast of ", length, " values"),
                              kdna::to_string(plan_.output_shape(0)));
    }

    [[nodiscard]] index_t parameters() const { return examples::trained_parameters(weights_); }
    [[nodiscard]] double seconds() const { return seconds_; }

    /// The window at i reads values [i, i + L) and writes forecast [i][L]. The windows overlap in memory, and are read where they are.
    void run(std::span<const float> values, std::span<float> out) {
        const kdna::nd_view<const float> x(values.data(), shape_, {1, 1, 1});
        const std::array in{x};
        const std::array to{kdna::row_major_view(out.data(), shape_)};
        const auto start = std::chrono::steady_clock::now();
        net_.run(plan_, in, to);
        seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

private:
    kdna::state_dict weights_;
    kdna::network net_;
    kdna::nd_shape shape_;
    kdna::network_plan plan_;
    double seconds_ = 0;
};

}  // namespace forecast
