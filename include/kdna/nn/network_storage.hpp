// Where the values of a network lie: which of them are parts of others, so that nothing is copied.
//
// A view (a reshape, a slice, a permutation) lies inside the value it is made from. The inputs of a concatenation are made where
// the concatenation wants them. Where one concatenation repeats the inputs of an earlier one, as in DenseNet, the earlier one lies
// inside the later. A step that may run in place, and is the only reader of its input, does.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <kdna/nn/arena.hpp>
#include <kdna/nn/network_graph.hpp>

namespace kdna::inline KDNA_ABI {

/// Where a value lies: in memory of its own, or in that of another value, its root.
struct value_placement {
    enum class memory { input, output, arena, constant };
    memory in = memory::arena;
    index_t root = 0;       ///< itself, unless it is a part of another value
    index_t number = 0;     ///< of an input or output of the caller's
    index_t offset = 0;     ///< elements from the root's first
    axis_numbers stride{};  ///< of all but the caller's
    bool runs = true;       ///< whether its step has anything to do
};

/// What a backend wants of the places of values.
struct storage_rules {
    /// Whether inputs and outputs lie in the caller's memory, with strides of the caller's. Otherwise the arena holds them too.
    bool callers_memory = true;
    /// 0: a value may have any strides. Otherwise images and pixels are rows of contiguous channels, one row a pixel, and the rows
    /// lie equally far apart; where a part of a value is no such thing it is copied, and so is one whose rows would begin between
    /// multiples of this many elements, if in memory of its own they would not.
    index_t row_alignment = 0;
};

/// How far the rows of channels of an image, or of pixels [N, C], lie apart in elements, if they are what
/// storage_rules::row_alignment asks for.
[[nodiscard]] KDNA_FUNC std::optional<index_t> row_distance(const nd_shape& s, const axis_numbers& stride);

/// Decides where the values of one network lie for one set of shapes.
class network_storage {
public:
    /// `batched`: of values, whether axis 0 counts the samples of the batch.
    network_storage(const network_graph& net, const std::vector<nd_shape>& shapes, const std::vector<bool>& batched,
                    const storage_rules& rules = {})
        : net_(&net),
          shapes_(&shapes),
          batched_(&batched),
          rules_(rules),
          links_(shapes.size()),
          uses_(shapes.size(), 0) {}
    /// Of values.
    [[nodiscard]] KDNA_FUNC std::vector<value_placement> place();

private:
    using placement = value_placement;
    /// How a value depends on the memory of another.
    struct link {
        enum class kind { own, view, in_place, slot };
        kind is = kind::own;
        index_t parent = 0;
        index_t axis = 0, start = 0;  ///< of a slot: along which axis it is a part of the parent, and from where on
    };
    [[nodiscard]] static std::size_t at(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] const nd_shape& shape(index_t id) const { return (*shapes_)[at(id)]; }
    [[nodiscard]] const network_graph::step& maker(index_t id) const { return net_->steps_[net_->step_of(id)]; }
    [[nodiscard]] bool made_by_step(index_t id) const { return id >= net_->input_count(); }
    [[nodiscard]] bool batched(index_t id) const { return (*batched_)[at(id)]; }
    KDNA_FUNC void count_uses();
    KDNA_FUNC void link_views();
    KDNA_FUNC void link_concatenation(index_t id);
    [[nodiscard]] KDNA_FUNC bool repeats(index_t id, index_t axis);
    [[nodiscard]] KDNA_FUNC bool in_a_row(index_t id) const;
    [[nodiscard]] KDNA_FUNC bool fits(index_t id, index_t offset, const axis_numbers& stride) const;
    [[nodiscard]] KDNA_FUNC index_t first_in_place(index_t id) const;
    [[nodiscard]] KDNA_FUNC axis_order order_of(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement resolve(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement slot_of(index_t id) const;

    const network_graph* net_;
    const std::vector<nd_shape>* shapes_;
    const std::vector<bool>* batched_;
    storage_rules rules_;
    std::vector<placement> places_{};
    std::vector<link> links_;       // of values
    std::vector<index_t> uses_;     // of values: how often steps read them
    std::vector<index_t> ports_{};  // of values: the output that they are, and nothing else; -1
    std::vector<bool> kept_{};      // of values: whether they are outputs
};

/// The first and the last step during which each root is touched, without their bytes; last < first where nothing touches it.
/// `together(i)` are the first and the last of the steps that run in turns with step i.
[[nodiscard]] KDNA_FUNC std::vector<arena_value> lifetimes(
    const network_graph& net, const std::vector<value_placement>& places,
    const std::function<std::pair<index_t, index_t>(index_t)>& together);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network_storage.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
