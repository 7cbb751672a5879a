#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include <kdna/io/state_dict.hpp>

#include "io/support.hpp"

namespace {

using io_test::check_error;
using io_test::error_of;
using kdna::dtype;
using kdna::index_t;
using kdna::state_dict;
using kdna::state_dict_reader;
using kdna::tensor_data;

state_dict small_model() {
    state_dict dict;
    dict.add("conv1.weight", tensor_data(dtype::f32, {4, 3, 2, 2}));
    dict.add("layer1.0.bn.weight", tensor_data::copy_of<float>({4}, std::array{1.f, 2.f, 3.f, 4.f}));
    dict.add("layer1.0.bn.num_batches_tracked", tensor_data::copy_of<std::int64_t>({}, std::array<std::int64_t, 1>{7}));
    return dict;
}

}  // namespace

TEST_CASE("every dtype has a size and a name", "[state_dict]") {
    CHECK(size_of(dtype::f32) == 4);
    CHECK(size_of(dtype::i64) == 8);
    CHECK(size_of(dtype::bf16) == 2);
    CHECK(size_of(dtype::boolean) == 1);
    CHECK(name_of(dtype::f32) == "float32");
    CHECK(name_of(dtype::boolean) == "bool");
    CHECK(to_string(dtype::f32, std::array<index_t, 4>{256, 128, 3, 3}) == "float32 256x128x3x3");
    CHECK(to_string(dtype::i64, {}) == "int64 scalar");
}

TEST_CASE("tensor_data is zero, aligned and of the size of its shape", "[state_dict]") {
    const tensor_data tensor(dtype::f32, {3, 5});
    CHECK(tensor.bytes().size() == 60);
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes().data()) % kdna::alignment == 0);
    for (const float x : tensor.values<float>()) CHECK(x == 0.0f);
    CHECK(tensor_data(dtype::f64, {3, 0, 5}).bytes().empty());
    CHECK(tensor_data(dtype::i64, {}).bytes().size() == 8);
}

TEST_CASE("tensor_data rejects impossible shapes", "[state_dict]") {
    constexpr index_t huge = std::numeric_limits<index_t>::max();
    check_error(error_of([] { tensor_data(dtype::f32, {2, -1}, "w"); }), "w", ">= 0", "-1");
    check_error(error_of([] { tensor_data(dtype::f32, {huge / 2, 3}, "w"); }), "w", "fits in 64 bits", "4 * ");
    check_error(error_of([] { tensor_data(dtype::f64, {huge / 4}, "w"); }), "w", "fits in 64 bits", "8 * ");
    check_error(error_of([] { tensor_data(dtype::f32, {0, huge, 2}, "w"); }), "w", "fits in 64 bits", "");
    check_error(error_of([] { tensor_data(dtype::f32, std::vector<index_t>(33, 1), "w"); }), "w", "32", "33");
}

TEST_CASE("tensor_data gives its values in their own type only", "[state_dict]") {
    const auto tensor = tensor_data::copy_of<float>({2}, std::array{1.5f, -2.0f});
    CHECK(tensor.values<float>()[1] == -2.0f);
    check_error(error_of([&] { return tensor.values<double>("w"); }), "w", "float64", "float32");
    check_error(error_of([] {
                    return tensor_data::copy_of<float>({3}, std::array{1.f, 2.f}, "w");
                }),
                "w", "values for float32 3", "2 values");
}

TEST_CASE("state_dict keeps tensors in the order of their names", "[state_dict]") {
    state_dict dict = small_model();
    CHECK(dict.size() == 3);
    CHECK(dict.names() ==
          std::vector<std::string>{"conv1.weight", "layer1.0.bn.num_batches_tracked", "layer1.0.bn.weight"});
    CHECK(dict.contains("conv1.weight"));
    CHECK_FALSE(dict.contains("conv1"));
    CHECK(dict.at("layer1.0.bn.weight").values<float>()[2] == 3.0f);
}

TEST_CASE("state_dict rejects names used twice, empty, or with control characters", "[state_dict]") {
    state_dict dict = small_model();
    const auto add = [&](const std::string& name) {
        return error_of([&] { dict.add(name, tensor_data(dtype::f32, {1})); });
    };
    check_error(add("conv1.weight"), "conv1.weight", "once", "second");
    check_error(add(""), "state_dict", "a tensor name", "empty");
    check_error(add("a\nb"), "a\\x0ab", "control", "10");
    check_error(add(std::string("a\0b", 3)), "a\\x00b", "control", "0");
    CHECK(dict.size() == 3);
}

TEST_CASE("state_dict hands a tensor out once", "[state_dict]") {
    state_dict dict = small_model();
    const tensor_data taken = dict.extract("layer1.0.bn.weight");
    CHECK(taken.values<float>()[3] == 4.0f);
    CHECK_FALSE(dict.contains("layer1.0.bn.weight"));
    check_error(error_of([&] { dict.extract("layer1.0.bn.weight"); }), "layer1.0.bn.weight", "a tensor",
                "no such tensor");
    check_error(error_of([&] { static_cast<void>(dict.at("nothing")); }), "nothing", "a tensor", "no such tensor");
}

TEST_CASE("state_dict strips a prefix that all names have", "[state_dict]") {
    state_dict dict;
    dict.add("module.b", tensor_data(dtype::f32, {1}));
    dict.add("module.module.a", tensor_data(dtype::f32, {2}));
    CHECK(dict.strip_prefix());
    CHECK(dict.names() == std::vector<std::string>{"b", "module.a"});
    CHECK(dict.at("module.a").shape() == std::vector<index_t>{2});
}

TEST_CASE("state_dict leaves names alone if none has the prefix", "[state_dict]") {
    state_dict dict = small_model();
    CHECK_FALSE(dict.strip_prefix());
    CHECK(dict.contains("conv1.weight"));
    CHECK_FALSE(state_dict().strip_prefix());
}

TEST_CASE("state_dict rejects a prefix that only some names have", "[state_dict]") {
    state_dict dict = small_model();
    dict.add("module.fc.weight", tensor_data(dtype::f32, {1}));
    check_error(error_of([&] { dict.strip_prefix(); }), "layer1.0.bn.weight", "in all names or in none",
                "module.fc.weight");
    CHECK(dict.size() == 4);
    CHECK(dict.contains("module.fc.weight"));
}

TEST_CASE("state_dict rejects a name that is only the prefix", "[state_dict]") {
    state_dict dict;
    dict.add("module.", tensor_data(dtype::f32, {1}));
    check_error(error_of([&] { dict.strip_prefix(); }), "module.", "a name after the prefix", "only the prefix");
    CHECK(dict.contains("module."));
}

TEST_CASE("tensors take the place of others of their names, all or none", "[state_dict]") {
    const auto with = [](const std::string& name, dtype type, const std::vector<index_t>& shape) {
        state_dict other;
        other.add("conv1.weight", tensor_data(dtype::f16, {4, 3, 2, 2}));
        other.add(name, tensor_data(type, shape));
        return other;
    };
    state_dict dict = small_model();
    const auto refused = [&](const std::string& name, dtype type, const std::vector<index_t>& shape) {
        return error_of([&] { dict.replace(with(name, type, shape)); });
    };
    const std::string bn = "layer1.0.bn.weight", count = "layer1.0.bn.num_batches_tracked";
    check_error(refused("layer1.0.bn.weights", dtype::f32, {4}), "layer1.0.bn.weights", "a tensor that it replaces",
                "no such tensor");
    check_error(refused(bn, dtype::f32, {4, 1}), bn, "float32 4", "float32 4x1");
    check_error(refused(bn, dtype::i32, {4}), bn, "float32 4", "int32 4");
    check_error(refused(count, dtype::f32, {}), count, "int64", "float32");
    CHECK(dict.at("conv1.weight").type() == dtype::f32);
    CHECK(dict.at(bn).values<float>()[2] == 3.f);

    dict.replace(with(bn, dtype::f64, {4}));
    CHECK(dict.size() == 3);
    CHECK(dict.at("conv1.weight").type() == dtype::f16);
    CHECK(dict.at(bn).values<double>()[2] == 0.0);
}

TEST_CASE("the reader gives what was asked for", "[state_dict]") {
    const state_dict dict = small_model();
    const state_dict_reader reader(dict);
    CHECK(reader.contains("conv1.weight"));
    CHECK(reader.shape_of("conv1.weight") == std::vector<index_t>{4, 3, 2, 2});
    CHECK(reader.take("conv1.weight", {4, 3, 2, 2}).size() == 48);
    const auto block = reader.scope("layer1.").scope("0.");
    CHECK(block.prefix() == "layer1.0.");
    CHECK(block.contains("bn.weight"));
    CHECK(block.take("bn.weight", {4})[1] == 2.0f);
    CHECK(block.take("bn.weight", {4})[1] == 2.0f);
    CHECK(block.take_i64_scalar("bn.num_batches_tracked") == 7);
    reader.finish();
    block.finish();
}

TEST_CASE("the reader gives other element types to who asks for them", "[state_dict]") {
    state_dict dict = small_model();
    dict.add("index", tensor_data::copy_of<std::uint8_t>({3}, std::array<std::uint8_t, 3>{1, 255, 0}));
    const state_dict_reader reader(dict);
    CHECK(reader.take<std::uint8_t>("index", {3})[1] == 255);
    CHECK(reader.take<std::int64_t>("layer1.0.bn.num_batches_tracked", {}).front() == 7);
    check_error(error_of([&] { return reader.take("index", {3}); }), "index", "float32 3", "uint8 3");
    check_error(error_of([&] { return reader.take<std::uint8_t>("index", {2}); }), "index", "uint8 2", "uint8 3");
    check_error(error_of([&] { return reader.take<std::uint8_t>("layer1.0.bn.weight", {4}); }), "layer1.0.bn.weight",
                "uint8 4", "float32 4");
    check_error(error_of([&] { reader.finish(); }), "conv1.weight", "every tensor to be used", "2 unused tensors");
}

TEST_CASE("the reader names a tensor of another shape", "[state_dict]") {
    const state_dict dict = small_model();
    const state_dict_reader reader(dict);
    check_error(error_of([&] {
                    return reader.take("conv1.weight", {4, 3, 3, 3});
                }),
                "conv1.weight", "float32 4x3x3x3", "float32 4x3x2x2");
    check_error(error_of([&] { return reader.take("conv1.weight", {48}); }), "conv1.weight", "float32 48",
                "float32 4x3x2x2");
    check_error(error_of([&] {
                    return reader.scope("layer1.0.bn.").take("weight", {4, 1});
                }),
                "layer1.0.bn.weight", "float32 4x1", "float32 4");
    CHECK_THROWS_AS(reader.finish(), kdna::error);  // a failed take does not count
}

TEST_CASE("the reader names a tensor of another type", "[state_dict]") {
    state_dict dict = small_model();
    dict.add("integers", tensor_data(dtype::i32, {4}));
    dict.add("vector", tensor_data(dtype::i64, {1}));
    const state_dict_reader reader(dict);
    check_error(error_of([&] { return reader.take("integers", {4}); }), "integers", "float32 4", "int32 4");
    check_error(error_of([&] { reader.take_i64_scalar("layer1.0.bn.weight"); }), "layer1.0.bn.weight", "int64 scalar",
                "float32 4");
    check_error(error_of([&] { reader.take_i64_scalar("vector"); }), "vector", "int64 scalar", "int64 1");
}

TEST_CASE("the reader names a missing tensor, and one it may have been", "[state_dict]") {
    state_dict dict = small_model();
    dict.add("model.fc.weight", tensor_data(dtype::f32, {2}));
    dict.add("layer3.conv_2.weight", tensor_data(dtype::f32, {2}));
    dict.add("layer4.conv1.weight", tensor_data(dtype::f32, {2}));
    const state_dict_reader reader(dict);
    const auto take = [&](std::string_view name) { return error_of([&] { return reader.take(name, {2}); }); };
    check_error(take("fc.weight"), "fc.weight", "float32 2", "no such tensor; did you mean model.fc.weight?");
    check_error(take("layer3.conv2.weight"), "layer3.conv2.weight", "float32 2", "did you mean layer3.conv_2.weight?");
    CHECK(take("layer5.conv1.weight").found() == "no such tensor");  // the neighbour layer is not a misspelling
    CHECK(take("head").found() == "no such tensor");
    check_error(error_of([&] { return reader.shape_of("fc.weight"); }), "fc.weight", "a tensor", "model.fc.weight");
    check_error(error_of([&] { reader.scope("layer9.").take_i64_scalar("n"); }), "layer9.n", "int64 scalar",
                "no such tensor");
}

TEST_CASE("the reader does not suggest a tensor that is used already", "[state_dict]") {
    state_dict dict;
    dict.add("model.fc.weight", tensor_data(dtype::f32, {2}));
    const state_dict_reader reader(dict);
    CHECK(reader.take("model.fc.weight", {2}).size() == 2);
    CHECK(error_of([&] { return reader.take("fc.weight", {2}); }).found() == "no such tensor");
}

TEST_CASE("the reader insists that every tensor is used", "[state_dict]") {
    state_dict dict = small_model();
    const state_dict_reader reader(dict);
    const state_dict_reader copy = reader;
    static_cast<void>(copy.take("conv1.weight", {4, 3, 2, 2}));
    static_cast<void>(copy.shape_of("layer1.0.bn.weight"));  // looking is not using
    check_error(error_of([&] { reader.finish(); }), "layer1.0.bn.num_batches_tracked", "every tensor to be used",
                "2 unused tensors: layer1.0.bn.num_batches_tracked, layer1.0.bn.weight");
    reader.scope("conv1.").finish();
    static_cast<void>(reader.take("layer1.0.bn.weight", {4}));
    CHECK(error_of([&] { reader.finish(); }).found() == "1 unused tensor: layer1.0.bn.num_batches_tracked");
}

TEST_CASE("the reader names the first few of many unused tensors", "[state_dict]") {
    state_dict dict;
    for (int i = 0; i < 9; ++i) dict.add(kdna::concat("t", i), tensor_data(dtype::f32, {1}));
    CHECK(error_of([&] { state_dict_reader(dict).finish(); }).found() == "9 unused tensors: t0, t1, t2, t3, ...");
}

TEST_CASE("an empty tensor can be taken", "[state_dict]") {
    state_dict dict;
    dict.add("none", tensor_data(dtype::f32, {0, 3}));
    const state_dict_reader reader(dict);
    CHECK(reader.take("none", {0, 3}).empty());
    reader.finish();
}
