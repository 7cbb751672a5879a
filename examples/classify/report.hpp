// What classify prints.
#pragma once

#include <common/confusion_matrix.hpp>
#include <common/fashion_evaluation.hpp>
#include <common/idx.hpp>
#include <common/numbers.hpp>
#include <cstdio>
#include <string>

namespace fashion {

using examples::confusion_matrix, examples::grouped, examples::percentage;

/// One network with what is to be told about it.
struct contestant {
    const char* name;
    const loaded_net& loaded;
    const evaluation& result;
    confusion_matrix table;
};

inline void print_summary(const contestant& dna, const contestant& twin) {
    const auto line = [&](const char* what, auto&& text_of) {
        std::printf("%-24s %14s %14s\n", what, text_of(dna).c_str(), text_of(twin).c_str());
    };
    line("", [](const contestant& c) { return std::string(c.name); });
    line("top-1 accuracy", [&](const contestant& c) { return percentage(c.table.accuracy()); });
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
