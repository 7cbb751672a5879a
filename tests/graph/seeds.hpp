// Small network files in memory that use most operations, and a careful run of whatever became of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory_resource>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/load.hpp>

namespace graph_test {

using kdna::index_t;

/// All tensors of all seeds. A file has those that its text names.
struct seed_tensor {
    std::string_view name;
    std::vector<index_t> shape;
};
inline const std::vector<seed_tensor>& seed_tensors() {
    static const std::vector<seed_tensor> all{
        {"t.w3", {4, 4, 3, 3}},
        {"t.w1", {4, 4, 1, 1}},
        {"t.dw", {4, 1, 3, 3}},
        {"t.up", {4, 4, 2, 2}},
        {"t.up3", {4, 2, 3, 3}},
        {"t.b4", {4}},
        {"t.b5", {5}},
        {"t.b2", {2}},
        {"t.b3", {3}},
        {"t.b9", {9}},
        {"t.b1", {1}},
        {"t.b6", {6}},
        {"t.lin", {5, 4}},
        {"t.lin4", {4, 4}},
        {"t.c", {1, 4, 1, 1}},
        {"t.fc1", {2, 4}},
        {"t.fc2", {4, 2}},
        {"t.m", {3, 4, 4, 3, 3}},
        {"t.rw", {3, 4}},
        {"t.mb", {3, 4}},
        {"t.h1", {2, 4, 1, 1}},
        {"t.h2", {4, 2, 1, 1}},
        {"t.h9", {9, 2, 1, 1}},
        {"t.h3", {3, 2, 1, 1}},
        {"t.s", {}},
        {"t.none", {0}},
        {"t.big", {64, 4, 3, 3}},
    };
    return all;
}

inline const std::vector<std::string>& seeds() {
    static const std::string head =
        R"({"version":1,"inputs":[{"name":"x","shape":[null,4,null,null],"example":[2,4,8,6]}],"outputs":[)";
    static const std::vector<std::string> all{
        // An encoder and decoder.
        head + R"({"name":"y","value":"y"},{"name":"z","value":"p"}],"nodes":[
{"op":"conv2d","name":"a","in":["x"],"out":"a","tensors":{"weight":"t.w3","bias":"t.b4"},"pad":[1,1,1,1]},
{"op":"batch_norm","name":"bn","in":["a"],"out":"bn","tensors":{"weight":"t.b4","bias":"t.b4","mean":"t.b4","var":"t.b4"},"eps":0.001},
{"op":"activation","name":"r","in":["bn"],"out":"r","kind":"relu"},
{"op":"max_pool2d","name":"p","in":["r"],"out":"p","window":[2,2],"stride":[2,2]},
{"op":"conv2d","name":"d","in":["p"],"out":"d","tensors":{"weight":"t.dw"},"groups":4,"pad":[1,1,1,1],"dilation":[1,1]},
{"op":"conv_transpose2d","name":"u","in":["d"],"out":"u","tensors":{"weight":"t.up","bias":"t.b4"},"stride":[2,2]},
{"op":"concat","name":"c","in":["r","u"],"out":"c2","axis":1},
{"op":"slice","name":"s","in":["c2"],"out":"s","axis":1,"start":2,"stop":-2},
{"op":"add","name":"add","in":["s","x"],"out":"add"},
{"op":"resize","name":"n","in":["add"],"out":"n","mode":"nearest","scale":[2,2]},
{"op":"resize","name":"bl","in":["n"],"out":"bl","mode":"bilinear","size":[["dim","x",2],["dim","x",3]],"align_corners":true},
{"op":"conv2d","name":"o","in":["bl"],"out":"o","tensors":{"weight":"t.w1"}},
{"op":"add","name":"res","in":["o","r"],"out":"res"},
{"op":"activation","name":"y","in":["res"],"out":"y","kind":"silu"}]})",
        // Attention.
        head + R"({"name":"y","value":"y"}],"nodes":[
{"op":"permute","name":"p","in":["x"],"out":"p","axes":[0,2,3,1]},
{"op":"reshape","name":"r","in":["p"],"out":"r","shape":[["dim","x",0],["mul",["dim","x",2],["dim","x",3]],4]},
{"op":"layer_norm","name":"ln","in":["r"],"out":"ln","axes":1,"tensors":{"weight":"t.b4","bias":"t.b4"}},
{"op":"linear","name":"q","in":["ln"],"out":"q","tensors":{"weight":"t.lin4","bias":"t.b4"}},
{"op":"permute","name":"t","in":["ln"],"out":"t","axes":[0,2,1]},
{"op":"matmul","name":"m","in":["q","t"],"out":"m"},
{"op":"mul","name":"sc","in":["m"],"out":"sc","scalar":0.5},
{"op":"softmax","name":"sm","in":["sc"],"out":"sm","axis":-1},
{"op":"matmul","name":"v","in":["sm","ln"],"out":"v"},
{"op":"linear","name":"f","in":["v"],"out":"f","tensors":{"weight":"t.lin","bias":"t.b5"}},
{"op":"activation","name":"g","in":["f"],"out":"g","kind":"gelu"},
{"op":"mean","name":"mean","in":["g"],"out":"mean","axes":[1]},
{"op":"log_softmax","name":"y","in":["mean"],"out":"y","axis":1}]})",
        // Element by element, and shapes.
        head + R"({"name":"y","value":"y"},{"name":"k","value":"k"},{"name":"x","value":"x"}],"nodes":[
{"op":"constant","name":"k","out":"k","tensors":{"value":"t.c"}},
{"op":"mul","name":"a","in":["x","k"],"out":"a"},
{"op":"clamp","name":"b","in":["a"],"out":"b","low":-3,"high":3.5},
{"op":"abs","name":"c","in":["b"],"out":"c0"},
{"op":"sqrt","name":"d","in":["c0"],"out":"d"},
{"op":"pow","name":"e","in":["d"],"out":"e","exponent":2},
{"op":"sub","name":"f","in":["e"],"out":"f","scalar":1,"scalar_first":true},
{"op":"maximum","name":"g","in":["f","x"],"out":"g"},
{"op":"div","name":"h","in":["g"],"out":"h","scalar":3},
{"op":"pad","name":"i","in":["h"],"out":"i","before":[0,0,1,2],"after":[0,0,1,0],"mode":"reflect"},
{"op":"channel_shuffle","name":"j","in":["i"],"out":"j","groups":2},
{"op":"pixel_unshuffle","name":"l","in":["j"],"out":"l","factor":2},
{"op":"pixel_shuffle","name":"m","in":["l"],"out":"m0","factor":2},
{"op":"flatten","name":"n","in":["m0"],"out":"n","first":2},
{"op":"unsqueeze","name":"o","in":["n"],"out":"o","axes":[3]},
{"op":"squeeze","name":"p","in":["o"],"out":"p","axes":[-1]},
{"op":"expand","name":"q","in":["k"],"out":"q","shape":[["dim","x",0],-1,["max",2,["dim","x",3]],5]},
{"op":"sum","name":"r","in":["q"],"out":"r","axes":[2,3],"keep":true},
{"op":"activation","name":"s","in":["r"],"out":"s0","kind":"prelu","tensors":{"a":"t.b4"}},
{"op":"squeeze","name":"t","in":["s0"],"out":"t","axes":[2]},
{"op":"group_norm","name":"u","in":["p"],"out":"u","groups":2,"tensors":{"weight":"t.b4","bias":"t.b4"}},
{"op":"add","name":"y","in":["u","t"],"out":"y"}]})",
        // Gates, pools and the methods' layers.
        head + R"({"name":"y","value":"y"}],"nodes":[
{"op":"mean","name":"gap","in":["x"],"out":"gap","axes":[2,3],"keep":true},
{"op":"conv2d","name":"f1","in":["gap"],"out":"f1","tensors":{"weight":"t.h1","bias":"t.b2"}},
{"op":"activation","name":"r1","in":["f1"],"out":"r1","kind":"relu"},
{"op":"conv2d","name":"f2","in":["r1"],"out":"f2","tensors":{"weight":"t.h2","bias":"t.b4"}},
{"op":"activation","name":"s1","in":["f2"],"out":"s1","kind":"hard_sigmoid"},
{"op":"mul","name":"se","in":["x","s1"],"out":"se"},
{"op":"conv2d","name":"pw","in":["se"],"out":"pw","tensors":{"weight":"t.w1"}},
{"op":"conv2d","name":"kd","in":["pw"],"out":"kd","method":"kernel_dna","pad":[1,1,1,1],"tensors":{"weight":"t.w3","spatial":"t.b9","filter":"t.b4","fc1":"t.fc1","fc2":"t.fc2","bn.weight":"t.b2","bn.bias":"t.b2","bn.mean":"t.b2","bn.var":"t.b2"}},
{"op":"conv2d","name":"cc","in":["kd"],"out":"cc","method":"condconv","kernel":[4,4,3,3],"pad":[1,1,1,1],"tensors":{"weight":"t.m","routing.weight":"t.rw","routing.bias":"t.b3"}},
{"op":"mean","name":"gm","in":["cc"],"out":"gm","axes":[2,3]},
{"op":"linear","name":"rt","in":["gm"],"out":"rt","tensors":{"weight":"t.rw","bias":"t.b3"}},
{"op":"activation","name":"rs","in":["rt"],"out":"rs","kind":"sigmoid"},
{"op":"conv2d","name":"mx","in":["cc","rs"],"out":"mx","method":"mixture","pad":[1,1,1,1],"tensors":{"weight":"t.m","bias":"t.mb"}},
{"op":"conv2d","name":"dm","in":["mx","gm"],"out":"dm","method":"dymn","pad":[1,1,1,1],"tensors":{"weight":"t.m","residuals.weight":"t.rw","residuals.bias":"t.b3"}},
{"op":"conv2d","name":"mo","in":["dm","gm"],"out":"mo","method":"modulated","pad":[1,1,1,1],"eps":0.5,"tensors":{"weight":"t.w3","bias":"t.b4"}},
{"op":"batch_norm","name":"mn","in":["mo"],"out":"mn","tensors":{"mean":"t.b4","var":"t.b4"}},
{"op":"conv2d","name":"dy","in":["mn"],"out":"dy","method":"dyconv","kernel":[4,4,3,3],"pad":[1,1,1,1],"tensors":{"weight":"t.m","attention.fc1.weight":"t.h1","attention.fc2.weight":"t.h3","attention.fc2.bias":"t.b3"}},
{"op":"conv2d","name":"od","in":["dy"],"out":"od","method":"odconv","kernel":[4,4,3,3],"pad":[1,1,1,1],"tensors":{"weight":"t.m","attention.fc.weight":"t.h1","attention.bn.weight":"t.b2","attention.bn.bias":"t.b2","attention.bn.running_mean":"t.b2","attention.bn.running_var":"t.b2","attention.channel_fc.weight":"t.h2","attention.channel_fc.bias":"t.b4","attention.filter_fc.weight":"t.h2","attention.filter_fc.bias":"t.b4","attention.spatial_fc.weight":"t.h9","attention.spatial_fc.bias":"t.b9","attention.kernel_fc.weight":"t.h3","attention.kernel_fc.bias":"t.b3"}},
{"op":"avg_pool2d","name":"ap","in":["od"],"out":"ap","window":[3,3],"stride":[2,2],"pad":[1,1,1,1],"ceil_mode":true,"count_include_pad":false},
{"op":"conv_transpose2d","name":"tr","in":["ap"],"out":"tr","tensors":{"weight":"t.up3"},"groups":2,"stride":[2,3],"dilation":[2,1],"output_pad":[1,0],"pad":[1,1]},
{"op":"max_pool2d","name":"mp","in":["tr"],"out":"mp","window":[2,3],"stride":[1,2],"dilation":[2,1],"ceil_mode":true},
{"op":"adaptive_avg_pool2d","name":"aa","in":["mp"],"out":"aa","size":[3,["ceil_div",["dim","x",3],4]]},
{"op":"adaptive_max_pool2d","name":"am","in":["aa"],"out":"am","size":[1,1]},
{"op":"flatten","name":"fl","in":["am"],"out":"fl","first":1},
{"op":"linear","name":"y","in":["fl"],"out":"y","tensors":{"weight":"t.lin","bias":"t.b5"}}]})",
        // No steps, and outputs that are one value.
        head + R"({"name":"y","value":"x"},{"name":"z","value":"x"}],"nodes":[]})",
        // Sizes at the limits, two inputs.
        R"({"version":1,"inputs":[{"name":"x","shape":[2,4,8,6]},{"name":"v","shape":[null,6]}],"outputs":[{"name":"y","value":"y"}],"nodes":[
{"op":"conv2d","name":"a","in":["x"],"out":"a","tensors":{"weight":"t.big"},"dilation":[1073741824,1],"pad":[1073741824,1073741824,0,0]},
{"op":"conv_transpose2d","name":"b","in":["x"],"out":"b","tensors":{"weight":"t.up"},"stride":[8,8],"pad":[3,3]},
{"op":"max_pool2d","name":"c","in":["b"],"out":"c0","window":[8,8],"stride":[1073741824,8],"pad":[7,7,7,7]},
{"op":"batch_norm","name":"d","in":["v"],"out":"d","tensors":{"mean":"t.b6","var":"t.b6"}},
{"op":"min","name":"e","in":["d"],"out":"e","axes":[0,1],"keep":true},
{"op":"max","name":"f","in":["c0"],"out":"f","axes":[1,2,3],"keep":true},
{"op":"reshape","name":"g","in":["f"],"out":"g","shape":[-1,1]},
{"op":"mul","name":"h","in":["g","e"],"out":"h"},
{"op":"sum","name":"i","in":["a"],"out":"i","axes":[1,2,3],"keep":true},
{"op":"add","name":"y","in":["i","h"],"out":"y"}]})",
    };
    return all;
}

/// The tensors that a text names, with positive values.
inline kdna::state_dict seed_weights(const std::string& json) {
    kdna::state_dict out;
    for (const seed_tensor& t : seed_tensors()) {
        if (json.find(kdna::concat("\"", t.name, "\"")) == std::string::npos) continue;
        kdna::tensor_data data(kdna::dtype::f32, t.shape);
        auto* values = reinterpret_cast<float*>(data.bytes().data());
        for (std::size_t i = 0; i < data.bytes().size() / sizeof(float); ++i)
            values[i] = 0.25F + 0.125F * static_cast<float>(i % 7);
        out.add(std::string(t.name), std::move(data));
    }
    out.metadata()["kdna.graph"] = json;
    return out;
}

/// Memory that runs out after 512 MiB.
class bounded_resource final : public std::pmr::memory_resource {
private:
    static constexpr std::size_t most = std::size_t{512} << 20U;
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (bytes > most - used_) throw std::bad_alloc();
        void* p = std::pmr::new_delete_resource()->allocate(bytes, alignment);
        used_ += bytes;
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        used_ -= bytes;
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
    std::size_t used_ = 0;
};

enum class outcome { refused, loaded, ran };

/// Loads a network, and runs it if that is a small matter. Anything but kdna::error passes through.
inline outcome load_and_run(const kdna::state_dict& weights) {
    using namespace kdna;
    try {
        const network net = load(weights, "net");
        std::vector<nd_shape> in;
        for (index_t i = 0; i < net.input_count(); ++i) {
            const auto given = net.input_extents(i);
            std::vector<index_t> extents(given.begin(), given.end());
            constexpr index_t open[] = {2, 4, 8, 6, 3};
            for (std::size_t axis = 0; axis < extents.size(); ++axis)
                if (extents[axis] == 0) extents[axis] = open[axis];
            in.emplace_back(extents);
        }
        const auto small = [](const std::vector<nd_shape>& shapes) {
            index_t all = 0;
            for (const nd_shape& s : shapes) {
                const index_t count = element_count(s);
                if (count > (index_t{1} << 17)) return false;
                all += count;
            }
            return all <= (index_t{1} << 18);
        };
        if (!small(net.shapes(in))) return outcome::loaded;
        bounded_resource memory;
        plan_options options;
        options.memory = &memory;
        network_plan plan = net.plan(in, options);
        static_cast<void>(plan.explain());
        // Exactly as large as they must be, so that a sanitizer sees the first element outside.
        std::vector<std::vector<float>> values;
        std::vector<nd_view<const float>> x;
        std::vector<nd_view<float>> y;
        values.reserve(in.size() + static_cast<std::size_t>(net.output_count()));
        for (const nd_shape& s : in) {
            values.emplace_back(static_cast<std::size_t>(element_count(s)), 0.5F);
            x.push_back(row_major_view<const float>(values.back().data(), s));
        }
        for (index_t i = 0; i < net.output_count(); ++i) {
            values.emplace_back(static_cast<std::size_t>(element_count(plan.output_shape(i))));
            y.push_back(row_major_view(values.back().data(), plan.output_shape(i)));
        }
        net.check(plan, x, y);
        net.run(plan, x, y);
        return outcome::ran;
    } catch (const error&) {
        return outcome::refused;
    }
}

}  // namespace graph_test
