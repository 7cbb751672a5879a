// What a network saw, beside what was there.
#pragma once

#include <kdna/core/config.hpp>
#include <vector>

namespace examples {

using kdna::index_t;

/// How often each true class was taken for each class: counts of images, or of pixels. Figures are in per cent.
class confusion_matrix {
public:
    explicit confusion_matrix(int classes)
        : classes_(classes), count_(static_cast<std::size_t>(classes) * static_cast<std::size_t>(classes)) {}

    void add(int truth, int predicted) { ++count_[place(truth, predicted)]; }
    [[nodiscard]] int classes() const { return classes_; }
    [[nodiscard]] index_t operator()(int truth, int predicted) const { return count_[place(truth, predicted)]; }

    /// Of what belongs to a class, how much was recognised.
    [[nodiscard]] double recall(int truth) const { return percent((*this)(truth, truth), of_class(truth)); }
    /// Intersection over union: what belongs to a class and was recognised, of all that belongs to it or was taken for it.
    [[nodiscard]] double iou(int c) const { return percent((*this)(c, c), of_class(c) + taken_for(c) - (*this)(c, c)); }
    [[nodiscard]] double mean_iou() const {
        double sum = 0;
        for (int c = 0; c < classes_; ++c) sum += iou(c);
        return sum / classes_;
    }
    /// Of everything, how much was recognised.
    [[nodiscard]] double accuracy() const {
        index_t right = 0, all = 0;
        for (int c = 0; c < classes_; ++c) {
            right += (*this)(c, c);
            all += of_class(c);
        }
        return percent(right, all);
    }

private:
    [[nodiscard]] std::size_t place(int truth, int predicted) const {
        return static_cast<std::size_t>(truth * classes_ + predicted);
    }
    [[nodiscard]] index_t of_class(int truth) const {
        index_t sum = 0;
        for (int c = 0; c < classes_; ++c) sum += (*this)(truth, c);
        return sum;
    }
    [[nodiscard]] index_t taken_for(int predicted) const {
        index_t sum = 0;
        for (int c = 0; c < classes_; ++c) sum += (*this)(c, predicted);
        return sum;
    }
    static double percent(index_t part, index_t all) {
        return all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all);
    }
    int classes_;
    std::vector<index_t> count_;
};

}  // namespace examples
