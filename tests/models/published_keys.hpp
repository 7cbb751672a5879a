// The tensors of the published ODConv and KernelWarehouse networks, counted up by the rules of the methods' public code:
// which layers share a warehouse, how large its cells are and how many, and how many hidden units an attention has.
#pragma once

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "models/state_dicts.hpp"

namespace kdna_test {

/// The ratios of a KernelWarehouse configuration: one for all warehouses, or one for each in the order of first use.
struct warehouse_ratios {
    std::vector<double> number, inputs, outputs;
    double reduction = 0.0625, basis = 1.0;

    static warehouse_ratios of(double number, double cell = 1.0) { return {{number}, {cell}, {cell}}; }
};

/// A layer over a warehouse: how many combinations of its cells, and where the cells begin that are the layer's own.
struct warehouse_place {
    std::string layer;
    index_t combinations = 0, cells = 0, first = 0, local = 0, hidden = 0;
};

class published_keys {
public:
    [[nodiscard]] const key_list& list() const { return list_; }
    /// After warehouses().
    [[nodiscard]] const std::vector<warehouse_place>& places() const { return places_; }

    void conv(const std::string& name, index_t o, index_t i, index_t extent) {
        list_.push_back({name + ".weight", {o, i, extent, extent}});
    }
    void linear(const std::string& name, index_t o, index_t i, bool bias = true) {
        list_.push_back({name + ".weight", {o, i}});
        if (bias) list_.push_back({name + ".bias", {o}});
    }
    void bn(const std::string& name, index_t c) {
        for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
            list_.push_back({name + part, {c}});
        list_.push_back({name + ".num_batches_tracked", {}, kdna::dtype::i64});
    }
    void odconv(const std::string& name, index_t n, index_t o, index_t i, index_t extent, index_t groups = 1) {
        const index_t hidden = std::max<index_t>(i / 16, 16);
        const auto head = [&](const std::string& part, index_t outputs) {
            list_.push_back({name + ".attention." + part + ".weight", {outputs, hidden, 1, 1}});
            list_.push_back({name + ".attention." + part + ".bias", {outputs}});
        };
        list_.push_back({name + ".weight", {n, o, i / groups, extent, extent}});
        list_.push_back({name + ".attention.fc.weight", {hidden, i, 1, 1}});
        bn(name + ".attention.bn", hidden);
        head("channel_fc", i);
        if (groups != i || i != o) head("filter_fc", o);
        if (extent > 1) head("spatial_fc", extent * extent);
        if (n > 1) head("kernel_fc", n);
    }
    /// A layer over the warehouse of this name; its tensors are listed by warehouses().
    void kw(const std::string& warehouse, const std::string& name, index_t o, index_t i, index_t extent,
            index_t groups = 1, bool on_vectors = false) {
        if (std::find(names_.begin(), names_.end(), warehouse) == names_.end()) names_.push_back(warehouse);
        layers_.push_back({warehouse, name, o, i, i / groups, extent, on_vectors});
    }
    /// The warehouses, and the attentions over them.
    void warehouses(const warehouse_ratios& r) {
        const auto of = [](const std::vector<double>& ratios, std::size_t i) {
            return ratios.size() == 1 ? ratios[0] : ratios.at(i);
        };
        for (std::size_t i = 0; i < names_.size(); ++i) {
            index_t outputs = 0, inputs = 0, combinations = 0, claimed = 0;
            bool on_vectors = false;
            for (const layer& l : layers_)
                if (l.warehouse == names_[i]) {
                    outputs = std::gcd(outputs, l.o);
                    inputs = std::gcd(inputs, l.per_group);
                    on_vectors = l.on_vectors;
                }
            const auto scaled = [](double x) { return std::max<index_t>(static_cast<index_t>(x), 1); };
            const index_t o = scaled(static_cast<double>(outputs) * of(r.outputs, i)),
                          c = scaled(static_cast<double>(inputs) * of(r.inputs, i));
            const auto combinations_of = [&](const layer& l) {
                return l.o / o * (l.per_group / c) * (l.on_vectors ? 1 : l.extent * l.extent);
            };
            for (const layer& l : layers_)
                if (l.warehouse == names_[i]) combinations += combinations_of(l);
            const double ratio = of(r.number, i);
            const index_t n = scaled(static_cast<double>(combinations) * ratio);
            std::vector<index_t> shape{n, o, c, 1};
            if (!on_vectors) shape.push_back(1);
            list_.push_back({kdna::concat("warehouse_manager.weights.", i), shape});
            for (const layer& l : layers_)
                if (l.warehouse == names_[i]) {
                    attention(l, {l.name, combinations_of(l), n, claimed, 0, 0}, ratio, r);
                    claimed += claims(combinations_of(l), ratio);
                }
        }
    }

private:
    struct layer {
        std::string warehouse, name;
        index_t o, i, per_group, extent;
        bool on_vectors;
    };
    static index_t claims(index_t combinations, double ratio) {
        if (ratio >= 1.0) return static_cast<index_t>(ratio) * combinations;
        const auto period = static_cast<index_t>(1.0 / ratio);
        index_t out = 0;
        for (index_t j = 0; j < combinations; ++j)
            if (j % period == (j / period) % period) ++out;
        return out;
    }
    void attention(const layer& l, warehouse_place place, double ratio, const warehouse_ratios& r) {
        const std::string name = l.name + ".attention.";
        place.hidden = std::max<index_t>(static_cast<index_t>(static_cast<double>(l.i) * r.reduction), 16);
        list_.push_back({name + "fc1.weight", {place.hidden, l.i}});
        bn(name + "norm1", place.hidden);
        if (r.basis < 1.0) {
            place.local = static_cast<index_t>(ratio * static_cast<double>(place.combinations));
            const index_t others = place.cells - place.local,
                          basis = std::max<index_t>(static_cast<index_t>(static_cast<double>(others) * r.basis), 16);
            linear(name + "fc2", place.combinations * (place.local + basis + 1), place.hidden, false);
            linear(name + "fc3", others, basis, false);
            list_.push_back({name + "basis_bias", {place.combinations * (place.cells + 1)}});
        } else {
            linear(name + "fc2", place.combinations * (place.cells + 1), place.hidden);
        }
        if (l.on_vectors) list_.push_back({l.name + ".bias", {l.o}});
        places_.push_back(place);
    }
    key_list list_;
    std::vector<std::string> names_;
    std::vector<layer> layers_;
    std::vector<warehouse_place> places_;
};

/// ResNet18 or ResNet50; make(keys, layer's name, index of the warehouse that a KernelWarehouse layer has or -1, O, I, extent).
template <class Make>
published_keys resnet_keys(bool bottlenecks, Make&& make) {
    published_keys k;
    k.conv("conv1", 64, 3, 7);
    k.bn("bn1", 64);
    index_t in = 64;
    const std::vector<index_t> blocks =
        bottlenecks ? std::vector<index_t>{3, 4, 6, 3} : std::vector<index_t>{2, 2, 2, 2};
    for (int s = 0; s < 4; ++s) {
        const index_t width = index_t{64} << s, out = bottlenecks ? 4 * width : width;
        for (index_t i = 0; i < blocks[static_cast<std::size_t>(s)]; ++i) {
            const std::string block = kdna::concat("layer", s + 1, ".", i, ".");
            const int before = i == 0 ? (bottlenecks ? s - 1 : std::max(s - 1, 0)) : s;
            make(k, block + "conv1", before, width, in, bottlenecks ? 1 : 3);
            k.bn(block + "bn1", width);
            make(k, block + "conv2", s, width, width, 3);
            k.bn(block + "bn2", width);
            if (bottlenecks) {
                make(k, block + "conv3", s, out, width, 1);
                k.bn(block + "bn3", out);
            }
            if (i == 0 && (s > 0 || in != out)) {
                make(k, block + "downsample.0", s > 0 ? before : -1, out, in, 1);
                k.bn(block + "downsample.1", out);
            }
            in = out;
        }
    }
    k.linear("fc", 1000, in);
    return k;
}

/// MobileNetV2; make(keys, layer's name, stage of a KernelWarehouse layer, kind: 'e', 'd' or 'p', O, I, groups).
template <class Make>
published_keys mobilenet_keys(bool wide, Make&& make) {
    published_keys k;
    const std::vector<index_t> widths = wide ? std::vector<index_t>{16, 24, 32, 64, 96, 160, 320}
                                             : std::vector<index_t>{8, 16, 16, 32, 48, 80, 160},
                               blocks{1, 2, 3, 4, 3, 3, 1}, stages{1, 2, 3, 4, 5, 6, 6};
    index_t in = wide ? 32 : 16, number = 1;
    make(k, "features.0.0", 0, 's', in, 3, 1);
    k.bn("features.0.1", in);
    for (std::size_t g = 0; g < blocks.size(); ++g)
        for (index_t i = 0; i < blocks[g]; ++i, ++number) {
            const bool first = i == 0 && g > 0 && stages[g] != stages[g - 1];
            const index_t stage = first ? stages[g] - 1 : stages[g], hidden = g == 0 ? in : 6 * in;
            const std::string block = kdna::concat("features.", number, ".conv.");
            index_t part = 0;
            if (g > 0) {
                make(k, block + "0.0", stage, 'e', hidden, in, 1);
                k.bn(block + "0.1", hidden);
                ++part;
            }
            make(k, kdna::concat(block, part, ".0"), stage, 'd', hidden, hidden, hidden);
            k.bn(kdna::concat(block, part, ".1"), hidden);
            make(k, kdna::concat(block, part + 1), stage, 'p', widths[g], hidden, 1);
            k.bn(kdna::concat(block, part + 2), widths[g]);
            in = widths[g];
        }
    make(k, "features.18.0", 6, 'p', 1280, in, 1);
    k.bn("features.18.1", 1280);
    return k;
}

inline published_keys resnet_odconv(bool bottlenecks, index_t n) {
    return resnet_keys(bottlenecks,
                       [n](published_keys& k, const std::string& name, int, index_t o, index_t i, index_t e) {
                           if (name.find("downsample") != std::string::npos)
                               k.conv(name, o, i, e);
                           else
                               k.odconv(name, n, o, i, e);
                       });
}
inline published_keys resnet_kw(bool bottlenecks, const warehouse_ratios& r) {
    published_keys k = resnet_keys(
        bottlenecks, [](published_keys& keys, const std::string& name, int warehouse, index_t o, index_t i, index_t e) {
            if (warehouse < 0)
                keys.conv(name, o, i, e);
            else
                keys.kw(kdna::concat(warehouse), name, o, i, e);
        });
    k.warehouses(r);
    return k;
}
inline published_keys mobilenet_odconv(bool wide, index_t n) {
    published_keys k = mobilenet_keys(wide, [n](published_keys& keys, const std::string& name, index_t, char kind,
                                                index_t o, index_t i, index_t groups) {
        if (kind == 's')
            keys.conv(name, o, i, 3);
        else
            keys.odconv(name, n, o, i, kind == 'd' ? 3 : 1, groups);
    });
    k.linear("classifier.1", 1000, 1280);
    return k;
}
/// `share`: expansions and projections have one warehouse (1x) or two (4x).
inline published_keys mobilenet_kw(bool wide, double ratio, bool share) {
    published_keys k = mobilenet_keys(wide, [share](published_keys& keys, const std::string& name, index_t stage,
                                                    char kind, index_t o, index_t i, index_t groups) {
        const char shared = share && kind == 'e' ? 'p' : kind;
        keys.kw(kdna::concat(stage, shared), name, o, i, kind == 'd' || kind == 's' ? 3 : 1, groups);
    });
    k.linear("classifier", 1000, 1280);
    k.warehouses(warehouse_ratios::of(ratio));
    return k;
}
/// KernelWarehouse's smallest: 1x1 layers are plain before the last stage, and the classifier has a warehouse.
inline published_keys mobilenet_kw_1d2x(bool wide) {
    published_keys k = mobilenet_keys(wide, [](published_keys& keys, const std::string& name, index_t stage, char kind,
                                               index_t o, index_t i, index_t groups) {
        if ((kind == 'e' || kind == 'p') && stage < 6)
            keys.conv(name, o, i, 1);
        else
            keys.kw(kdna::concat(stage, kind), name, o, i, kind == 'd' || kind == 's' ? 3 : 1, groups);
    });
    k.kw("classifier", "classifier.1.conv", 1000, 1280, 1, 1, true);
    k.warehouses({.number = {1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 0.5},
                  .inputs = {1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 0.025},
                  .outputs = {1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 1},
                  .reduction = 0.03125});
    return k;
}
inline published_keys resnet50_kw_1d2x() {
    warehouse_ratios r = warehouse_ratios::of(0.5, 0.5);
    r.basis = 0.0625;
    return resnet_kw(true, r);
}

/// A published network whose tensors are not listed in keys/, and how many million parameters its authors state.
struct published_network {
    std::string_view name;
    kdna::models::arch arch;
    kdna::models::form form;
    double millions;
    bool compared;  ///< quick enough to be computed in double precision
    published_keys (*keys)();
};
inline const std::vector<published_network>& published_networks() {
    using kdna::models::arch;
    using kdna::models::form;
    constexpr form od = form::odconv, kw = form::kernel_warehouse;
    static const std::vector<published_network> all{
        {"resnet18_kw_1d4x", arch::resnet18, kw, 4.03, false,
         [] { return resnet_kw(false, warehouse_ratios::of(0.25, 0.5)); }},
        {"resnet18_kw_1d2x", arch::resnet18, kw, 7.43, false,
         [] { return resnet_kw(false, warehouse_ratios::of(0.5, 0.5)); }},
        {"resnet18_kw_2x", arch::resnet18, kw, 23.24, false, [] { return resnet_kw(false, warehouse_ratios::of(2)); }},
        {"resnet18_kw_4x", arch::resnet18, kw, 45.86, false, [] { return resnet_kw(false, warehouse_ratios::of(4)); }},
        {"resnet50_odconv_1x", arch::resnet50, od, 28.64, true, [] { return resnet_odconv(true, 1); }},
        {"resnet50_odconv_4x", arch::resnet50, od, 90.67, false, [] { return resnet_odconv(true, 4); }},
        {"resnet50_kw_1d2x", arch::resnet50, kw, 17.64, false, resnet50_kw_1d2x},
        {"resnet50_kw_1x", arch::resnet50, kw, 28.05, false, [] { return resnet_kw(true, warehouse_ratios::of(1)); }},
        {"resnet50_kw_4x", arch::resnet50, kw, 102.02, false, [] { return resnet_kw(true, warehouse_ratios::of(4)); }},
        {"mobilenet_v2_kw_1d2x", arch::mobilenet_v2, kw, 2.65, true, [] { return mobilenet_kw_1d2x(true); }},
        {"mobilenet_v2_kw_4x", arch::mobilenet_v2, kw, 11.38, false, [] { return mobilenet_kw(true, 4, false); }},
        {"mobilenet_v2_1d2_odconv_1x", arch::mobilenet_v2_1d2, od, 2.43, true,
         [] { return mobilenet_odconv(false, 1); }},
        {"mobilenet_v2_1d2_odconv_4x", arch::mobilenet_v2_1d2, od, 4.44, true,
         [] { return mobilenet_odconv(false, 4); }},
        {"mobilenet_v2_1d2_kw_1d2x", arch::mobilenet_v2_1d2, kw, 1.47, true, [] { return mobilenet_kw_1d2x(false); }},
        {"mobilenet_v2_1d2_kw_1x", arch::mobilenet_v2_1d2, kw, 2.85, true, [] { return mobilenet_kw(false, 1, true); }},
        {"mobilenet_v2_1d2_kw_4x", arch::mobilenet_v2_1d2, kw, 4.65, true,
         [] { return mobilenet_kw(false, 4, false); }}};
    return all;
}

}  // namespace kdna_test
