// What classify prints.
#pragma once

#include <array>
#include <common/idx.hpp>
#include <cstdio>
#include <string>

#include "evaluation.hpp"

namespace fashion {

/// A network's answers beside the truth.
class confusion {
public:
    confusion(const examples::labelled_images& set, const evaluation& e) {
        for (std::size_t i = 0; i < e.predictions.size(); ++i) {
            const int truth = set.label(static_cast<index_t>(i)), predicted = e.predictions[i].label;
            ++count_[static_cast<std::size_t>(truth)][static_cast<std::size_t>(predicted)];
        }
    }
    /// Images of class `truth` that were taken for class `predicted`.
    [[nodiscard]] index_t operator()(int truth, int predicted) const {
        return count_[static_cast<std::size_t>(truth)][static_cast<std::size_t>(predicted)];
    }
    /// Percent of the images of a class that were recognised.
    [[nodiscard]] double recall(int truth) const {
        index_t all = 0;
        for (int p = 0; p < class_count; ++p) all += (*this)(truth, p);
        return all == 0 ? 0.0 : percent((*this)(truth, truth), all);
    }
    /// Percent of all images that were recognised.
    [[nodiscard]] double accuracy() const {
        index_t right = 0, all = 0;
        for (int t = 0; t < class_count; ++t) {
            right += (*this)(t, t);
            for (int p = 0; p < class_count; ++p) all += (*this)(t, p);
        }
        return percent(right, all);
    }

private:
    static double percent(index_t part, index_t all) {
        return 100.0 * static_cast<double>(part) / static_cast<double>(all);
    }
    std::array<std::array<index_t, class_count>, class_count> count_{};
};

/// 1234567 as 1,234,567.
inline std::string grouped(index_t number) {
    std::string digits = std::to_string(number);
    for (auto at = std::ssize(digits) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
    return digits;
}

/// One network with what is to be told about it.
struct contestant {
    const char* name;
    const loaded_net& loaded;
    const evaluation& result;
    confusion table;
};

inline void print_summary(const contestant& dna, const contestant& twin) {
    const auto line = [&](const char* what, auto&& text_of) {
        std::printf("%-24s %14s %14s\n", what, text_of(dna).c_str(), text_of(twin).c_str());
    };
    const auto decimals = [](double v) {
        char text[32];
        std::snprintf(text, sizeof text, "%.2f %%", v);
        return std::string(text);
    };
    line("", [](const contestant& c) { return std::string(c.name); });
    line("top-1 accuracy", [&](const contestant& c) { return decimals(c.table.accuracy()); });
    line("parameters", [](const contestant& c) { return grouped(c.loaded.parameters); });
    line("bytes of weights", [](const contestant& c) { return grouped(c.loaded.weight_bytes); });
    line("  and for Winograd",
         [](const contestant& c) { return grouped(c.loaded.net.weight_bytes() - c.loaded.weight_bytes); });
    line("images per second", [](const contestant& c) {
        return grouped(static_cast<index_t>(static_cast<double>(c.result.predictions.size()) / c.result.seconds));
    });
}

/// Rows are what the images show, columns what the network saw in them.
inline void print_confusion(const contestant& dna, const contestant& twin) {
    std::printf("\n%s: true class downwards, predicted class across; recognised, and by the twin\n%-11s", dna.name, "");
    for (int p = 0; p < class_count; ++p) std::printf("%6.5s", class_name(p));
    std::printf("%10s%9s\n", "%", "twin %");
    for (int t = 0; t < class_count; ++t) {
        std::printf("%-11s", class_name(t));
        for (int p = 0; p < class_count; ++p)
            if (const index_t n = dna.table(t, p); n > 0)
                std::printf("%6td", n);
            else
                std::printf("%6s", ".");
        std::printf("%10.1f%9.1f\n", dna.table.recall(t), twin.table.recall(t));
    }
}

inline void print_disagreement(const examples::labelled_images& set, const contestant& dna, const contestant& twin) {
    index_t differ = 0, dna_right = 0, twin_right = 0;
    for (std::size_t i = 0; i < dna.result.predictions.size(); ++i) {
        const int a = dna.result.predictions[i].label, b = twin.result.predictions[i].label;
        const int truth = set.label(static_cast<index_t>(i));
        if (a == b) continue;
        ++differ;
        dna_right += a == truth ? 1 : 0;
        twin_right += b == truth ? 1 : 0;
    }
    std::printf("\nThe two disagree on %s images: %s is right on %s of them, the %s on %s, neither on %s.\n",
                grouped(differ).c_str(), dna.name, grouped(dna_right).c_str(), twin.name, grouped(twin_right).c_str(),
                grouped(differ - dna_right - twin_right).c_str());
}

}  // namespace fashion
