// Decides where the values of a network lie: which of them are parts of others, so that nothing is copied.
//
// A view (a reshape, a slice, a permutation) lies inside the value it is made from. The inputs of a concatenation are made where
// the concatenation wants them. Where one concatenation repeats the inputs of an earlier one, as in DenseNet, the earlier one lies
// inside the later. A step that may run in place, and is the only reader of its input, does.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <vector>

#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

/// Fills in the placements of one plan.
class network_storage {
public:
    network_storage(const network& net, network_plan& p)
        : net_(&net), plan_(&p), links_(p.value_shapes_.size()), uses_(p.value_shapes_.size(), 0) {}
    KDNA_FUNC void place();

private:
    using placement = network_plan::placement;
    /// How a value depends on the memory of another.
    struct link {
        enum class kind { own, view, in_place, slot };
        kind is = kind::own;
        index_t parent = 0;
        index_t axis = 0, start = 0;  ///< of a slot: along which axis it is a part of the parent, and from where on
    };
    [[nodiscard]] static std::size_t at(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] const nd_shape& shape(index_t id) const { return plan_->value_shapes_[at(id)]; }
    [[nodiscard]] const network::step& maker(index_t id) const { return net_->steps_[net_->step_of(id)]; }
    [[nodiscard]] bool made_by_step(index_t id) const { return id >= net_->input_count(); }
    KDNA_FUNC void count_uses();
    KDNA_FUNC void link_views();
    KDNA_FUNC void link_concatenation(index_t id);
    [[nodiscard]] KDNA_FUNC bool repeats(index_t id, index_t axis);
    [[nodiscard]] KDNA_FUNC bool in_a_row(index_t id) const;
    [[nodiscard]] KDNA_FUNC index_t first_in_place(index_t id) const;
    [[nodiscard]] KDNA_FUNC axis_order order_of(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement resolve(index_t id) const;
    [[nodiscard]] KDNA_FUNC placement slot_of(index_t id) const;

    const network* net_;
    network_plan* plan_;
    std::vector<link> links_;     // of values
    std::vector<index_t> uses_;   // of values: how often steps read them
    std::vector<index_t> ports_;  // of values: the output that they are, and nothing else; -1
    std::vector<bool> kept_;      // of values: whether they are outputs
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network_storage.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
