// A network that enlarges pictures, tile by tile.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <common/numbers.hpp>
#include <common/photo.hpp>
#include <filesystem>
#include <functional>
#include <kdna/io/safetensors.hpp>
#include <kdna/load.hpp>
#include <map>

namespace upscale {

using kdna::index_t;

/// A stretch of a picture's rows or columns, [first, last).
struct stretch {
    index_t first, last;
    [[nodiscard]] index_t size() const { return last - first; }
};

/// A tile, and the window around it that the network has to see. At the picture's border the window ends where the picture
/// does, so that the network's own zero padding is where it would be for the whole picture.
struct tile {
    stretch rows, columns, window_rows, window_columns;
};

/// Cuts a picture into tiles of at most `size` x `size` pixels (0: one tile), with windows `overlap` pixels wider on every side.
inline std::vector<tile> tiles_of(index_t height, index_t width, index_t size, index_t overlap) {
    const index_t step = size == 0 ? std::max(height, width) : size;
    const auto window = [&](const stretch& s, index_t end) {
        return stretch{std::max(s.first - overlap, index_t{0}), std::min(s.last + overlap, end)};
    };
    std::vector<tile> out;
    for (index_t y = 0; y < height; y += step)
        for (index_t x = 0; x < width; x += step) {
            const stretch rows{y, std::min(y + step, height)}, columns{x, std::min(x + step, width)};
            out.push_back({rows, columns, window(rows, height), window(columns, width)});
        }
    return out;
}

/// One network and a plan for each size of a window: those of inner tiles, of tiles at the sides and corners, and of tiles
/// whose windows the picture's border cuts off although they are not at it. Making a plan allocates, running does not.
class upscaler {
public:
    /// Throws kdna::error unless the network takes and gives RGB images.
    upscaler(const std::filesystem::path& file, const kdna::plan_options& options)
        : weights_(kdna::load_safetensors(file)), net_(kdna::load(weights_, file.string())), options_(options) {
        if (net_.input_channels() != 3 || net_.output_channels() != 3)
            throw kdna::error(file.string(), "a network of 3 channels to 3",
                              kdna::concat(net_.input_channels(), " to ", net_.output_channels()));
        const kdna::shape4 out = net_.plan({1, 3, 32, 32}, {.transform_budget = 0}).output_shape();
        scale_ = out.h / 32;
        if (scale_ < 1 || out.h != 32 * scale_ || out.w != 32 * scale_)
            throw kdna::error(file.string(), "an output that is a multiple of its input", kdna::to_string(out));
    }

    [[nodiscard]] index_t scale() const { return scale_; }
    [[nodiscard]] index_t parameters() const { return examples::trained_parameters(weights_); }
    [[nodiscard]] index_t weight_bytes() const { return net_.weight_bytes(); }
    [[nodiscard]] std::size_t plans() const { return plans_.size(); }
    /// Spent in the network so far.
    [[nodiscard]] double seconds() const { return seconds_; }

    /// The enlarged picture [3, scale * height, scale * width], values around 0 to 1. `progress` is told how many tiles are done.
    [[nodiscard]] kdna::tensor<float> run(const examples::photo& from, index_t tile_size, index_t overlap,
                                          const std::function<void(index_t, index_t)>& progress = {}) {
        kdna::tensor<float> out({1, 3, from.height * scale_, from.width * scale_});
        const std::vector<tile> tiles = tiles_of(from.height, from.width, tile_size, overlap);
        for (std::size_t i = 0; i < tiles.size(); ++i) {
            enlarge(from, tiles[i], out);
            if (progress) progress(static_cast<index_t>(i) + 1, std::ssize(tiles));
        }
        return out;
    }

private:
    struct workspace {
        kdna::network_plan plan;
        kdna::tensor<float> in, out;
    };

    workspace& prepared(index_t h, index_t w) {
        const auto found = plans_.find({h, w});
        if (found != plans_.end()) return found->second;
        kdna::network_plan plan = net_.plan({1, 3, h, w}, options_);
        kdna::tensor<float> in(plan.input_shape()), out(plan.output_shape());
        return plans_.emplace(std::array{h, w}, workspace{std::move(plan), std::move(in), std::move(out)})
            .first->second;
    }

    void enlarge(const examples::photo& from, const tile& t, kdna::tensor<float>& to) {
        workspace& w = prepared(t.window_rows.size(), t.window_columns.size());
        for (index_t y = 0; y < t.window_rows.size(); ++y)
            for (index_t x = 0; x < t.window_columns.size(); ++x) {
                const std::uint8_t* pixel =
                    from.pixel(static_cast<int>(t.window_columns.first + x), static_cast<int>(t.window_rows.first + y));
                for (index_t c = 0; c < 3; ++c) w.in(0, c, y, x) = static_cast<float>(pixel[c]) / 255.0F;
            }
        const auto start = std::chrono::steady_clock::now();
        net_.run(w.plan, w.in.view(), w.out.view());
        seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const index_t top = (t.rows.first - t.window_rows.first) * scale_,
                      left = (t.columns.first - t.window_columns.first) * scale_;
        for (index_t c = 0; c < 3; ++c)
            for (index_t y = 0; y < t.rows.size() * scale_; ++y)
                for (index_t x = 0; x < t.columns.size() * scale_; ++x)
                    to(0, c, t.rows.first * scale_ + y, t.columns.first * scale_ + x) = w.out(0, c, top + y, left + x);
    }

    kdna::state_dict weights_;
    kdna::network net_;
    kdna::plan_options options_;
    index_t scale_ = 0;
    std::map<std::array<index_t, 2>, workspace> plans_;
    double seconds_ = 0;
};

}  // namespace upscale
