// What is wrong with a network file ends in a kdna::error that says where.
#include <string>
#include <string_view>
#include <vector>

#include <kdna/load.hpp>

#include "support/errors.hpp"

namespace {

using kdna::concat;
using kdna::index_t;
using kdna::state_dict;

struct error_tensor {
    const char* name;
    std::vector<index_t> shape;
};
using error_tensors = std::vector<error_tensor>;

/// Positive values, so that variances may have them.
state_dict error_weights(const error_tensors& tensors, const std::string& json) {
    state_dict out;
    for (const error_tensor& t : tensors) {
        kdna::tensor_data data(kdna::dtype::f32, t.shape);
        auto* values = reinterpret_cast<float*>(data.bytes().data());
        for (std::size_t i = 0; i < data.bytes().size() / sizeof(float); ++i)
            values[i] = 0.25F + 0.125F * static_cast<float>(i % 7);
        out.add(t.name, std::move(data));
    }
    out.metadata()["kdna.graph"] = json;
    return out;
}

void error_in(const error_tensors& tensors, const std::string& json, std::string_view where, std::string_view expected,
              std::string_view found) {
    INFO(json.substr(0, 2000));
    const state_dict weights = error_weights(tensors, json);
    kdna_test::check_error([&] { return kdna::load(weights, "net"); }, where, expected, found);
}

const std::string error_image = R"([{"name":"x","shape":[null,4,null,null],"example":[2,4,8,6]}])";

/// A network of these nodes and one output, y.
std::string error_net(const std::string& nodes, const std::string& inputs = error_image,
                      const std::string& outputs = R"([{"name":"y","value":"y"}])") {
    return concat(R"({"version":1,"inputs":)", inputs, R"(,"outputs":)", outputs, R"(,"nodes":[)", nodes, "]}");
}

/// A node n1 on the image x, whose output is y.
std::string error_node(const std::string& op, const std::string& fields, const std::string& in = R"("x")") {
    return concat(R"({"op":")", op, R"(","name":"n1","in":[)", in, R"(],"out":"y")", fields.empty() ? "" : ",", fields,
                  "}");
}

/// What is wrong with one node.
struct error_case {
    std::string op, fields, where, expected, found;
    error_tensors tensors{};
    std::string in = R"("x")";
    std::string inputs = error_image;
};

void error_table(const std::vector<error_case>& cases) {
    for (const error_case& c : cases) {
        // The node by name, whatever found the fault.
        error_in(c.tensors, error_net(error_node(c.op, c.fields, c.in), c.inputs), concat("net, node n1 (", c.op, ")"),
                 c.expected, c.found);
        error_in(c.tensors, error_net(error_node(c.op, c.fields, c.in), c.inputs), c.where, c.expected, c.found);
    }
}

const std::string error_relu = error_node("activation", R"("kind":"relu")");

}  // namespace

TEST_CASE("network files: the network of these tests is right") {
    const kdna::network net = kdna::load(error_weights({}, error_net(error_relu)), "net");
    CHECK(net.input_count() == 1);
    CHECK(net.output_named("y") == 0);
}

TEST_CASE("network files: the text") {
    error_in({}, "", "net", "starts with '{'", "\"\"");
    error_in({}, "[]", "net", "starts with '{'", "[]");
    error_in({}, "{", "net", "a JSON text", "at its byte 2");
    error_in({}, "{} x", "net", "a JSON text", "at its byte");
    error_in({}, "{}", "net", "a field \"version\"", "none");
    error_in({}, error_net(error_relu) + std::string(1, '\0'), "net", "in JSON", "NUL");
    error_in({}, "\xef\xbb\xbf" + error_net(error_relu), "net", "starts with '{'", "");
    error_in({}, R"({"version":1,"version":1})", "net", "every key once", "\"version\" twice");
    error_in({}, "{\"version\":" + std::string(100'000, '['), "net", "at most 64 deep", "deeper");
    error_in({}, "{\"version\":\"\xff\"}", "net", "a JSON text", "UTF-8");
    state_dict bare;
    bare.add("w", kdna::tensor_data(kdna::dtype::f32, {1}));
    kdna_test::check_error([&] { return kdna::load(bare, "net"); }, "net", "kdna.graph", "without a graph");
}

TEST_CASE("network files: the outermost fields") {
    const auto with = [](const std::string& version, const std::string& inputs, const std::string& outputs,
                         const std::string& nodes) {
        return concat(R"({"version":)", version, R"(,"inputs":)", inputs, R"(,"outputs":)", outputs, R"(,"nodes":)",
                      nodes, "}");
    };
    const std::string out = R"([{"name":"y","value":"y"}])", nodes = "[" + error_relu + "]";
    for (const char* version : {"0", "2", "-1", "9223372036854775807"})
        error_in({}, with(version, error_image, out, nodes), "net, version", "1", version);
    for (const char* version : {"1.0", "\"1\"", "[1]"})
        error_in({}, with(version, error_image, out, nodes), "net, version", "1", "a");
    error_in({}, with("null", error_image, out, nodes), "net, version", "1", "null");
    error_in({}, R"({"version":1,"inputs":[],"outputs":[]})", "net", "a field \"nodes\"", "none");
    error_in({}, R"({"version":1,"inputs":[],"outputs":[],"nodes":[],"author":"me"})", "net", "no fields but version",
             "\"author\"");
    error_in({}, with("1", "{}", out, nodes), "net, inputs", "an array", "an object");
    error_in({}, with("1", error_image, out, "null"), "net, nodes", "an array", "null");
    error_in({}, with("1", "[]", out, "[]"), "net, output 0", "a value made before", "\"y\"");
    error_in({}, with("1", "[]", "[]", "[]"), "net, inputs", "at least one", "none");
    error_in({}, with("1", error_image, "[]", nodes), "net, outputs", "at least one", "none");
    error_in({}, with("1", error_image, R"([{"name":"y","value":"z"}])", nodes), "net, output 0", "a value made before",
             "\"z\"");
    error_in({}, with("1", error_image, R"([{"name":"y","value":"y"},{"name":"y","value":"x"}])", nodes),
             "net, network output", "no other has", "\"y\"");
    error_in({}, with("1", error_image, R"([{"name":"y"}])", nodes), "net, output 0", "a field \"value\"", "none");
    error_in({}, with("1", error_image, R"([{"value":"y"}])", nodes), "net, output 0", "a field \"name\"", "none");
    error_in({}, with("1", error_image, R"([{"name":"y","value":"y","x":0}])", nodes), "net, output 0",
             "no fields but name, value", "\"x\"");
    error_in({}, with("1", error_image, R"(["y"])", nodes), "net, output 0", "an object", "a string");
}

TEST_CASE("network files: inputs") {
    const auto input = [](const std::string& fields) { return error_net(error_relu, "[{" + fields + "}]"); };
    const std::string at = "net, input 0";
    error_in({}, input(R"("name":"x")"), at, "a field \"shape\"", "none");
    error_in({}, input(R"("shape":[1])"), at, "a field \"name\"", "none");
    error_in({}, input(R"("name":"","shape":[1])"), at + ", name", "1 to 1024 bytes", "0");
    error_in({}, input(R"("name":"a\u0001","shape":[1])"), at + ", name", "control characters", "\"a?\"");
    error_in({}, input(R"("name":7,"shape":[1])"), at + ", name", "a string", "an integer");
    error_in({}, input(R"("name":"x","shape":[1],"type":"f32")"), at, "no fields but", "\"type\"");
    error_in({}, input(R"("name":"x","shape":[])"), at + ", shape", "a rank of 1 to 5", "0");
    error_in({}, input(R"("name":"x","shape":[1,1,1,1,1,1])"), at + ", shape", "a rank of 1 to 5", "6");
    error_in({}, input(R"("name":"x","shape":[1,0])"), at + ", shape", "extents >= 1", "0");
    error_in({}, input(R"("name":"x","shape":[-4])"), at + ", shape", "extents >= 1", "-4");
    error_in({}, input(R"("name":"x","shape":[1.5])"), at + ", shape", "extents >= 1", "a number");
    error_in({}, input(R"("name":"x","shape":[9223372036854775808])"), "net", "fit in 64 bits", "9223372036854775808");
    error_in({}, input(R"("name":"x","shape":[9223372036854775807,2])"), "input x", "fits in 64 bits", "9223372");
    error_in({}, input(R"("name":"x","shape":[3000000000,3000000000,3000000000])"), "input x", "fits in 64 bits", "3");
    error_in({}, input(R"("name":"x","shape":[null,3],"example":[2,4])"), at + ", example", "the shape allows",
             "others");
    error_in({}, input(R"("name":"x","shape":[null,3],"example":[2])"), at + ", example", "the shape allows", "others");
    error_in({}, input(R"("name":"x","shape":[null,3],"example":[null,3])"), at + ", example", "extents >= 1", "null");
    error_in({}, error_net(error_relu, R"([{"name":"x","shape":[1]},{"name":"x","shape":[1]}])"), "net, input 1",
             "made once", "\"x\" twice");
}

TEST_CASE("network files: nodes") {
    const auto node = [](const std::string& fields) { return error_net("{" + fields + "}"); };
    error_in({}, error_net("7"), "net, node 0", "an object", "an integer");
    error_in({}, node(R"("name":"n1","out":"y")"), "net, node 0", "a field \"op\"", "none");
    error_in({}, node(R"("op":"abs","out":"y")"), "net, node 0", "a field \"name\"", "none");
    error_in({}, node(R"("op":"abs","name":"n1")"), "net, node 0", "a field \"out\"", "none");
    error_in({}, node(R"("op":"abs","name":"n1","out":["y"])"), "net, node 0, out", "a string", "an array");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":"x")"), "net, node n1 (abs), in", "an array",
             "a string");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":[1])"), "net, node n1 (abs), in", "a string",
             "an integer");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":["x"],"in":["x"])"), "net", "every key once", "\"in\"");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":["x"],"tensors":["w"])"), "node n1 (abs), tensors",
             "an object", "an array");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":["x"],"tensors":{"weight":3})"),
             "node n1 (abs), tensors", "a string", "an integer");
    error_in(
        {},
        node(R"("op":"abs","name":"n1","out":"y","in":["x"],"tensors":{"weight":")" + std::string(2000, 'w') + "\"}"),
        "node n1 (abs), tensors", "a name of 1 to 1024 bytes", "2000");
    // The order of values.
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":["y"])"), "node n1 (abs), in", "a value made before",
             "\"y\"");
    error_in({}, node(R"("op":"abs","name":"n1","out":"y","in":["z"])"), "node n1 (abs), in", "a value made before",
             "\"z\"");
    error_in({}, node(R"("op":"abs","name":"n1","out":"x","in":["x"])"), "node n1 (abs)", "made once", "\"x\" twice");
    error_in({}, error_net(error_relu + "," + error_relu), "node n1 (activation)", "made once", "\"y\" twice");
    error_in(
        {},
        error_net(R"({"op":"add","name":"a","in":["x","b"],"out":"a"},{"op":"abs","name":"b","in":["a"],"out":"b"},)" +
                  error_relu),
        "node a (add), in", "a value made before", "\"b\"");
    // Names that would not fit on a line.
    error_in({}, node(concat(R"("op":"abs","out":"y","name":")", std::string(1025, 'n'), "\"")), "net, node 0, name",
             "1 to 1024 bytes", "1025");
}

TEST_CASE("network files: operations and attributes") {
    error_table({
        {"convolution", "", "", "an operation that kdna knows", "\"convolution\""},
        {"abs", R"("axis":1)", "", "attributes of this operation only", "\"axis\""},
        {"abs", "", "", "one input", "0", {}, ""},
        {"abs", "", "", "one input", "2", {}, R"("x","x")"},
        {"add", R"("scalar":1)", "", "one input", "3", {}, R"("x","x","x")"},
        {"add", R"("scalar":1)", "", "attributes of this operation only", "\"scalar\"", {}, R"("x","x")"},
        {"add", "", "", R"(an attribute "scalar")", "none"},
        {"add", R"("scalar":"1")", ", scalar", "a number", "a string"},
        {"add", R"("scalar":1,"scalar_first":1)", ", scalar_first", "a boolean", "an integer"},
        {"pow", "", "", R"(an attribute "exponent")", "none"},
        {"activation", "", "", R"(an attribute "kind")", "none"},
        {"activation", R"("kind":3)", ", kind", "a string", "an integer"},
        {"activation", R"("kind":"none")", ", kind", "an activation that kdna knows", "\"none\""},
        {"activation", R"("kind":"ReLU")", ", kind", "an activation that kdna knows", "\"ReLU\""},
        {"activation", R"("kind":"relu","a":1)", "", "attributes of this operation only", "\"a\""},
        {"activation", R"("kind":"prelu")", ", tensors", "the role a", "none"},
        {"activation", R"("kind":"prelu","tensors":{"a":"w"})", ", a", "1 or 4 slopes", "3", {{"w", {3}}}},
        {"clamp", R"("low":true)", ", low", "a number", "a boolean"},
        {"softmax", R"("axis":4)", "", "an axis from -4 to 3", "4"},
        {"softmax", R"("axis":-5)", "", "an axis from -4 to 3", "-5"},
        {"softmax", R"("axis":1.0)", ", axis", "an integer", "a number"},
        {"softmax", "", "", R"(an attribute "axis")", "none"},
        {"mean", R"("axes":[])", "", "1 to 5 axes", "0"},
        {"mean", R"("axes":[0,1,2,3])", "", "`keep`", "all axes reduced"},
        {"sum", R"("axes":[2,-2])", "", "axes that differ", "2 twice"},
        {"max", R"("axes":[9])", "", "an axis from -4 to 3", "9"},
        {"min", R"("axes":[1,1,1,1,1,1])", "", "1 to 5 axes", "6"},
        {"mean", R"("axes":2)", ", axes", "an array", "an integer"},
        {"mean", R"("axes":[2],"keep":"yes")", ", keep", "a boolean", "a string"},
    });
}

TEST_CASE("network files: tensors") {
    const std::string conv = R"("tensors":{"weight":"w"})";
    error_table({
        {"conv2d", "", ", tensors", "the role weight", "none"},
        {"conv2d", conv, ", w", "a tensor", "no such tensor"},
        {"conv2d",
         R"("tensors":{"weight":"conv.weight"})",
         ", conv.weight",
         "a tensor",
         "did you mean cov.weight?",
         {{"cov.weight", {8, 4, 3, 3}}}},
        {"conv2d",
         R"("tensors":{"weight":"w","weights":"w"})",
         ", tensors",
         "the roles weight, bias",
         "\"weights\"",
         {{"w", {8, 4, 3, 3}}}},
        {"conv2d",
         R"("tensors":{"weight":"w","bias":"b"})",
         ", b",
         "float32 8",
         "float32 7",
         {{"w", {8, 4, 3, 3}}, {"b", {7}}}},
        {"conv2d", conv, ", weight", "[O, C / groups, KH, KW]", "rank 3", {{"w", {8, 4, 3}}}},
        {"conv2d", conv, ", weight", "[O, C / groups, KH, KW]", "rank 0", {{"w", {}}}},
        {"conv2d", conv, "", "an input of 5 channels", "C 4", {{"w", {8, 5, 3, 3}}}},
        {"conv2d", conv, "", "extents and groups >= 1", "", {{"w", {0, 4, 3, 3}}}},
        {"conv2d", conv, "", "extents and groups >= 1", "", {{"w", {8, 4, 0, 3}}}},
        {"linear", conv, ", weight", "[O, C]", "rank 4", {{"w", {8, 6, 1, 1}}}},
        {"linear", conv, "", "whose last extent is 5", "", {{"w", {8, 5}}}},
        {"constant", "", ", tensors", "the role value", "none", {}, ""},
        {"constant", R"("tensors":{"value":"w"})", "", "a rank of 1 to 5", "6", {{"w", {1, 1, 1, 1, 1, 1}}}, ""},
        {"constant", R"("tensors":{"value":"w"})", "", "extents >= 1", "[0]", {{"w", {0}}}, ""},
        {"constant", R"("tensors":{"value":"w"})", "", "no inputs", "1", {{"w", {1}}}},
        {"batch_norm", R"("tensors":{"var":"w"})", ", tensors", "the role mean", "none", {{"w", {4}}}},
        {"batch_norm", R"("tensors":{"mean":"w"})", ", tensors", "the role var", "none", {{"w", {4}}}},
        {"batch_norm", R"("tensors":{"mean":"w","var":"w"})", ", w", "float32 4", "float32 5", {{"w", {5}}}},
        {"batch_norm", R"("tensors":{"mean":"w","var":"w"},"eps":-1)", "", "eps", "", {{"w", {4}}}},
        {"batch_norm", R"("tensors":{"mean":"w","var":"w"},"eps":"0")", ", eps", "a number", "a string", {{"w", {4}}}},
        {"layer_norm", R"("axes":0)", ", axes", "1 to 4", "0"},
        {"layer_norm", R"("axes":5)", ", axes", "1 to 4", "5"},
        {"layer_norm", R"("axes":1,"tensors":{"weight":"w"})", ", w", "float32 6", "float32 4", {{"w", {4}}}},
        {"layer_norm", R"("axes":2,"tensors":{"weight":"w"})", ", w", "float32 8x6", "float32 6x8", {{"w", {6, 8}}}},
        {"group_norm", R"("groups":0)", "", "groups >= 1", "0"},
        {"group_norm", R"("groups":3)", "", "multiple of the 3 groups", ""},
        {"group_norm", R"("groups":2,"tensors":{"bias":"w"})", ", w", "float32 4", "float32 3", {{"w", {3}}}},
        {"abs", R"("tensors":{"weight":"w"})", ", tensors", "none", "\"weight\"", {{"w", {4}}}},
        {"frequency_bands", R"("bands":[2,4])", "", "two inputs, an image and maps", "1", {}},
        {"frequency_bands", R"("bands":[2,4])", " maps", "2 or 3", "C 4", {}, R"("x","x")"},
        {"frequency_bands", "", "", R"(an attribute "bands")", "none", {}, R"("x","x")"},
        {"frequency_bands", R"("bands":[])", "", "1 to 64 bands", "0", {}, R"("x","x")"},
        {"frequency_bands", R"("bands":[2,4,1025])", "", "bands from 1 to 1024", "1025", {}, R"("x","x")"},
        {"frequency_bands",
         R"("bands":[2,4,8],"tensors":{"weight":"w"})",
         ", tensors",
         "none",
         "\"weight\"",
         {{"w", {4}}},
         R"("x","x")"},
        {"position_conv2d", R"("window":[1,1])", "", "two inputs, an image and kernels per position", "1", {}},
        {"position_conv2d", R"("window":[1,1])", " weights", "[2, 1, 1, 8, 6]", "[2, 4, 8, 6]", {}, R"("x","x")"},
        {"position_conv2d", R"("groups":2)", "", R"(an attribute "window")", "none", {}, R"("x","x")"},
        {"position_conv2d", R"("window":[1,2])", "", "an odd window", "1x2", {}, R"("x","x")"},
        {"position_conv2d",
         R"("window":[1,1],"groups":3)",
         "",
         "groups that divide the channels",
         "",
         {},
         R"("x","x")"},
        {"position_conv2d",
         R"("window":[1,1],"groups":0)",
         "",
         "groups that divide the channels",
         "",
         {},
         R"("x","x")"},
        {"position_conv2d",
         R"("window":[1,1],"groups":4,"sharing":"all")",
         ", sharing",
         "neighbours or interleaved",
         "\"all\"",
         {},
         R"("x","x")"},
        {"position_conv2d",
         R"("window":[1,1],"groups":4,"tensors":{"weight":"w"})",
         ", tensors",
         "none",
         "\"weight\"",
         {{"w", {4}}},
         R"("x","x")"},
        {"position_conv2d",
         R"("window":[1073741823,1073741823],"groups":4)",
         "",
         "a product that fits in 64 bits",
         "",
         {},
         R"("x","x")"},
    });
    // Unused tensors, and types that cannot be converted.
    error_in({{"w", {4}}}, error_net(error_relu), "net, w", "every tensor to be used", "1 unused tensor: w");
    state_dict whole = error_weights({}, error_net(error_node("conv2d", conv)));
    whole.add("w", kdna::tensor_data(kdna::dtype::i64, {8, 4, 1, 1}));
    kdna_test::check_error([&] { return kdna::load(whole, "net"); }, "net, node n1 (conv2d), w", "float32", "int64");
}

TEST_CASE("network files: convolutions that cannot run") {
    const error_tensors w{{"w", {8, 4, 3, 3}}};
    const std::string t = R"("tensors":{"weight":"w"},)";
    const std::string flat = R"([{"name":"x","shape":[null,4]}])";
    error_table({
        {"conv2d", t + R"("stride":[0,1])", "", "stride and dilation >= 1", "stride 0", w},
        {"conv2d", t + R"("stride":[1])", ", stride", "2 integers", "1", w},
        {"conv2d", t + R"("stride":2)", ", stride", "an array", "an integer", w},
        {"conv2d", t + R"("stride":[-1,1])", ", stride", "0 to 2^30", "-1", w},
        {"conv2d", t + R"("stride":[1,9223372036854775807])", ", stride", "0 to 2^30", "9223372036854775807", w},
        {"conv2d", t + R"("dilation":[0,0])", "", "stride and dilation >= 1", "dilation 0", w},
        {"conv2d", t + R"("dilation":[1073741824,1])", "", "an input of at least 2147483649", "", w},
        {"conv2d", t + R"("pad":[1,1])", ", pad", "4 integers", "2", w},
        {"conv2d", t + R"("pad":[0,0,0,-1])", ", pad", "0 to 2^30", "-1", w},
        {"conv2d", t + R"("pad_mode":"reflect")", ", pad_mode", "zeros or circular", "\"reflect\"", w},
        {"conv2d", t + R"("pad_mode":"circular","pad":[9,0,0,0])", "", "circular padding of at most", "", w},
        {"conv2d", t + R"("groups":0)", ", groups", "at least 1", "0", w},
        {"conv2d", t + R"("groups":-2)", ", groups", "at least 1", "-2", w},
        {"conv2d", t + R"("groups":3)", "", "groups that divide", "", w},
        {"conv2d", t + R"("groups":2)", "", "an input of 8 channels", "C 4", w},
        {"conv2d", t + R"("groups":9223372036854775807)", ", groups", "at least 1", "9223372036854775807", w},
        {"conv2d", t + R"("method":"sum")", ", method", "dense, kernel_dna", "\"sum\"", {}},
        {"conv2d", t + R"("method":"mixture")", "", "two inputs, an image and coefficients", "1", w},
        {"conv2d", t + R"("method":"mixture")", "", "two inputs, an image and coefficients", "3", w, R"("x","x","x")"},
        {"conv2d", t + R"("stride":[1,1])", "", "one input", "2", w, R"("x","x")"},
        {"conv2d", t + R"("method":"mixture")", ", weight", "[n, O, C / groups, KH, KW]", "rank 4", w, R"("x","x")"},
        {"conv2d", t + R"("method":"dymn")", "", "two inputs, an image and a context", "1", w},
        {"conv2d", t + R"("method":"dymn")", ", weight", "[n, O, C / groups, KH, KW]", "rank 4", w, R"("x","x")"},
        {"conv2d", t + R"("method":"modulated")", "", "two inputs, an image and a context", "3", w, R"("x","x","x")"},
        {"conv2d",
         t + R"("method":"modulated")",
         ", weight",
         "[O, C / groups, KH, KW]",
         "rank 5",
         {{"w", {3, 8, 4, 3, 3}}},
         R"("x","x")"},
        {"conv2d", t + R"("method":"modulated")", " context", "(N 2, C 4, H 1, W 1)", "(N 2, C 4, H 8, W 6)", w,
         R"("x","x")"},
        {"conv2d", t + R"("method":"modulated","eps":0)", ".eps", "a positive number", "0", w, R"("x","x")"},
        {"conv2d", t + R"("method":"modulated","demodulate":1)", ", demodulate", "a boolean", "an integer", w,
         R"("x","x")"},
        {"conv2d",
         R"("method":"modulated","tensors":{"weight":"w","affine.weight":"a"})",
         ", affine.weight",
         "[4, D]",
         "[5, 3]",
         {{"w", {8, 4, 3, 3}}, {"a", {5, 3}}},
         R"("x","x")"},
        {"conv2d",
         R"("method":"modulated","tensors":{"weight":"w","affine.bias":"a"})",
         ", affine.bias",
         "no bias without an affine.weight",
         "one",
         {{"w", {8, 4, 3, 3}}, {"a", {4}}},
         R"("x","x")"},
        {"conv2d",
         R"("method":"dymn","tensors":{"weight":"w","residuals.weight":"a"})",
         ", residuals.weight",
         "[3, D]",
         "[4, 2]",
         {{"w", {3, 8, 4, 3, 3}}, {"a", {4, 2}}},
         R"("x","x")"},
        {"conv2d",
         t + R"("method":"mixture")",
         " coefficients",
         "(N 2, C 3, H 1, W 1)",
         "(N 2, C 4, H 8, W 6)",
         {{"w", {3, 8, 4, 3, 3}}},
         R"("x","x")"},
        {"conv2d",
         t + R"("method":"mixture","kernel":[8,4,3,3])",
         "",
         "attributes of this operation only",
         "\"kernel\"",
         {{"w", {3, 8, 4, 3, 3}}},
         R"("x","x")"},
        {"conv2d", t + R"("grid":2)", "", "attributes of this operation only", "\"grid\"", w},
        {"conv2d", R"("tensors":{"weight":"w"})", "", "an image [N, C, H, W]", "", w, R"("x")", flat},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"})",
         "",
         "an image [N, C, H, W]",
         "",
         {{"w", {4, 8, 3, 3}}},
         R"("x")",
         flat},
        {"conv_transpose2d", R"("tensors":{"weight":"w"})", "", "an input of 8 channels", "", w},
        {"conv_transpose2d", R"("tensors":{"weight":"w"},"groups":0)", "", "groups >= 1", "0", {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d", R"("tensors":{"weight":"w"},"groups":-1)", "", "groups >= 1", "-1", {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"groups":3)",
         "",
         "groups that divide",
         "",
         {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"groups":9223372036854775807)",
         "",
         "fits in 64 bits",
         "",
         {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"stride":[65537,1])",
         "",
         "strides from 1 to 65536",
         "65537",
         {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"stride":[65536,65536])",
         "",
         "product is at most 4096",
         "65536x65536",
         {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"pad":[30,0])",
         "",
         "padding leaves something",
         "",
         {{"w", {4, 8, 3, 3}}}},
        {"conv_transpose2d",
         R"("tensors":{"weight":"w"},"output_pad":[1,0])",
         "",
         "output padding less",
         "1x0",
         {{"w", {4, 8, 3, 3}}}},
    });
}

TEST_CASE("network files: the methods' layers") {
    const error_tensors w{{"w", {8, 4, 3, 3}}, {"s", {}}, {"five", {5}}, {"fc", {2, 4}}};
    const auto with = [](const char* roles) {
        return concat(R"("method":"kernel_dna","tensors":{"weight":"w",)", roles, "}");
    };
    error_table({
        {"conv2d", with(R"("fc1":"s")"), ", fc1", "[h, C] or [h, C, 1, 1]", "rank 0", w},
        {"conv2d", with(R"("fc1":"fc")"), ", tensors", "the role fc2", "none", w},
        {"conv2d", with(R"("fc1":"fc","fc2":"fc")"), ", fc", "float32 4x2", "float32 2x4", w},
        {"conv2d", with(R"("fc1":"w","fc2":"fc")"), ", w", "float32 8x4", "float32 8x4x3x3", w},
        {"conv2d", with(R"("spatial":"five")"), "", "9", "5", w},
        {"conv2d", with(R"("filter":"five")"), "", "8", "5", w},
        {"conv2d", with(R"("router":"five")"), ", tensors", "the roles weight, bias", "\"router\"", w},
        {"conv2d", with(R"("filter":"five")") + R"(,"hidden":"prelu")", "", "", "", w},
    });
    const auto dynamic = [](const char* method, const char* kernel, const char* more) {
        return concat(R"("method":")", method, R"(","kernel":)", kernel, more);
    };
    const std::string mixture = R"(,"tensors":{"weight":"m","routing.weight":"rw","routing.bias":"rb"})";
    const error_tensors m{{"m", {3, 8, 4, 3, 3}}, {"rw", {3, 4}}, {"rb", {3}}};
    error_table({
        {"conv2d", R"("method":"condconv")" + mixture, "", R"(an attribute "kernel")", "none", m},
        {"conv2d", dynamic("condconv", "[8,4,3]", mixture.c_str()), ", kernel", "[O, C, KH, KW]", "3 numbers", m},
        {"conv2d", dynamic("condconv", "[8,4,3,-3]", mixture.c_str()), "", "extents and groups >= 1", "", m},
        {"conv2d", dynamic("condconv", "[4611686018427387904,4,3,3]", mixture.c_str()), "", "fits in 64 bits", "", m},
        {"conv2d", dynamic("condconv", "[1073741824,1073741824,1,1]", mixture.c_str()), "", "", "", m},
        {"conv2d", dynamic("condconv", "[8,5,3,3]", mixture.c_str()), "", "", "", m},
        {"conv2d", dynamic("condconv", "[8,4,3,3]", (mixture + R"(,"stride":[1,2])").c_str()), "",
         "the same stride and dilation", "another", m},
        {"conv2d", dynamic("condconv", "[8,4,3,3]", (mixture + R"(,"bias":3)").c_str()), ", bias", "a boolean",
         "an integer", m},
        {"conv2d", dynamic("condconv", "[8,4,3,3]", (mixture + R"(,"bias":true)").c_str()), "bias", "", "", m},
        {"conv2d", dynamic("condconv", "[8,4,3,3]", R"(,"tensors":{"weight":"m","routing.weight":"rw"})"),
         "routing.bias", "", "no such tensor", m},
        {"conv2d",
         dynamic("condconv", "[8,4,3,3]",
                 R"(,"tensors":{"weight":"m","routing.weight":"rw","routing.bias":"rb","routing.extra":"rb"})"),
         "routing.extra", "tensors that this layer has", "rb", m},
        {"conv2d", dynamic("kernel_warehouse", "[8,4,3,3]", ""), ", tensors", "the role cells", "none", {}},
        {"conv2d", dynamic("kernel_warehouse", "[8,4,3,3]", R"(,"tensors":{"cells":"rb"})"), ", cells",
         "[n, o, c, kh, kw]", "rank 1", m},
        {"conv2d", dynamic("kernel_warehouse", "[1099511627776,1024,64,64]", R"(,"tensors":{"cells":"m"})"), "", "", "",
         m},
        {"conv2d", dynamic("dcd", "[8,4,3,3]", R"(,"grid":-3,"tensors":{"weight":"m"})"), "", "", "", m},
        {"conv2d", dynamic("odconv", "[8,4,3,3]", R"(,"tensors":{"weight":"rb"})"), "", "5 dim", "", m},
        {"conv2d", dynamic("sparse", "[8,4,3,3]", R"(,"tensors":{"weight":"rb"})"), "", "", "", m},
        {"conv2d", dynamic("fdconv", "[8,4,3,3]", R"(,"tensors":{"weight":"m"})"), "KSM_Global.fc.weight", "", "", m},
        {"conv2d", dynamic("fdconv", "[8,5,3,3]", R"(,"tensors":{"weight":"m"})"), "", "", "", m},
        {"conv2d", dynamic("dyconv", "[8,4,3,3]", R"(,"tensors":{"weight":"m"})"), "attention.fc1.weight", "",
         "no such tensor", m},
    });
}

TEST_CASE("network files: shapes that cannot be") {
    const std::string image = R"("x")", two = R"([{"name":"x","shape":[2,4,8,6]},{"name":"z","shape":[2,4,8,5]}])",
                      five = R"([{"name":"x","shape":[2,4,2,3,5]}])", vector = R"([{"name":"x","shape":[7]}])";
    error_table({
        {"reshape", "", "", R"(an attribute "shape")", "none"},
        {"reshape", R"("shape":[2,193])", "", "as many elements as [2, 4, 8, 6]", "[2, 193]", {}, image, two},
        {"reshape", R"("shape":[-1,-1])", "", "-1 once", "-1", {}, image, two},
        {"reshape", R"("shape":[0,-1])", "", "extents >= 1", "0", {}, image, two},
        {"reshape", R"("shape":[-2])", "", "extents >= 1", "-2", {}, image, two},
        {"reshape", R"("shape":[-1,7])", "", "a multiple of 7 elements", "[2, 4, 8, 6]", {}, image, two},
        {"reshape", R"("shape":[])", "", "a rank of 1 to 5", "0", {}, image, two},
        {"reshape", R"("shape":[1,1,1,1,1,-1])", ", shape", "at most 5 extents", "6", {}, image, two},
        {"reshape", R"("shape":[4611686018427387904])", "", "an extent below 2^31", "4611686018427387904"},
        {"reshape", R"("shape":[2147483648,2147483648,2147483648])", "", "fits in 64 bits", "2147483648"},
        {"reshape", R"("shape":[1.5])", ", shape", "an integer or an expression", "a number"},
        {"reshape", R"("shape":["dim","x",0])", ", shape", "an integer or an expression", "a string"},
        {"reshape", R"("shape":[["dim","x"]])", ", shape", "an integer or an expression", "another array"},
        {"reshape", R"("shape":[["dim","x",9],-1])", "", "an axis from -4 to 3", "9"},
        {"reshape", R"("shape":[["dim","x",1.5],-1])", ", shape", "an integer", "a number"},
        {"reshape", R"("shape":[["dim",0,0],-1])", ", shape", "a string", "an integer"},
        {"reshape", R"("shape":[["dim","nobody",0],-1])", "", "extents of a value made before", "\"nobody\""},
        {"reshape", R"("shape":[["dim","y",0],-1])", "", "extents of a value made before", "\"y\""},
        {"reshape", R"("shape":[["mod",4,2],-1])", ", shape", "an integer or an expression", "\"mod\""},
        {"reshape", R"("shape":[["div",4,0],-1])", "", "a division by at least 1", "4 / 0"},
        {"reshape", R"("shape":[["ceil_div",["dim","x",1],-2],-1])", "", "a division by at least 1", "4 / -2"},
        {"reshape", R"("shape":[["mul",2147483648,2147483648],-1])", "", "an extent below 2^31", "4611686018427387904"},
        {"reshape", R"("shape":[["add",2147483648,1],-1])", "", "an extent below 2^31", "2147483649"},
        {"reshape", R"("shape":[["sub",0,["dim","x",0]],-1])", "", "extents >= 1", "-2"},
        {"flatten", R"("first":2,"last":1)", "", "a first axis before the last", "2 and 1"},
        {"flatten", R"("first":4)", "", "an axis from -4 to 3", "4"},
        {"squeeze", R"("axes":[1])", "", "an extent of 1 on axis 1", "[2, 4, 8, 6]"},
        {"squeeze", R"("axes":[-9])", "", "an axis from -4 to 3", "-9"},
        {"squeeze", R"("axes":[0])", "", "a rank of 1 to 5", "0", {}, image, R"([{"name":"x","shape":[1]}])"},
        {"unsqueeze", R"("axes":[0,1])", "", "a rank of 1 to 5", "6"},
        {"unsqueeze", R"("axes":[0,0])", "", "every axis once", "one twice", {}, image, vector},
        {"unsqueeze", R"("axes":[3])", "", "an axis from -2 to 1", "3", {}, image, vector},
        {"permute", R"("axes":[0,1,2])", "", "an input of rank 3", "[2, 4, 8, 6]"},
        {"permute", R"("axes":[0,1,2,2])", "", "every axis once", "axis 2 twice"},
        {"permute", R"("axes":[0,1,2,4])", "", "an axis from -4 to 3", "4"},
        {"permute", R"("axes":[])", "", "1 to 5 axes", "0"},
        {"expand", R"("shape":[2,4,8,7])", "", "", "[2, 4, 8, 7]", {}, image, two},
        {"expand", R"("shape":[4,8,6])", "", "a shape to which", "[4, 8, 6]", {}, image, two},
        {"expand", R"("shape":[-1,2,4,8,6])", "", "extents >= 1", "-1", {}, image, two},
        {"concat", R"("axis":1)", "", "differ in axis 1 alone", "[2, 4, 8, 5]", {}, R"("x","z")", two},
        {"concat", R"("axis":1)", "", "at least one input", "none", {}, ""},
        {"concat", R"("axis":4)", "", "an axis from -4 to 3", "4", {}, R"("x","x")"},
        {"concat", "", "", R"(an attribute "axis")", "none", {}, R"("x","x")"},
        {"slice", R"("axis":1,"start":2,"stop":2)", "", "a part of the 4 elements of axis 1", "elements 2 to 2"},
        {"slice", R"("axis":1,"start":-1,"stop":1)", "", "a part of the 4 elements of axis 1", "elements 3 to 1"},
        {"slice", R"("axis":1,"start":99)", "", "a part of the 4 elements of axis 1", "elements 4 to 4"},
        {"slice", R"("axis":1,"step":0)", "", "a step of at least 1", "0"},
        {"slice", R"("axis":1,"step":-1)", "", "a step of at least 1", "-1"},
        {"slice", R"("axis":1,"start":"0")", ", start", "an integer or an expression", "a string"},
        {"slice", R"("axis":7)", "", "an axis from -4 to 3", "7"},
        {"pixel_shuffle", R"("factor":3)", "", "a multiple of 9", "[2, 4, 8, 6]"},
        {"pixel_shuffle", R"("factor":0)", "", "", "0"},
        {"pixel_shuffle", R"("factor":4294967296)", "", "", "4294967296"},
        {"pixel_unshuffle", R"("factor":5)", "", "multiples of 5", "[2, 4, 8, 6]"},
        {"pixel_unshuffle", R"("factor":-9223372036854775808)", "", "", "-9223372036854775808"},
        {"pixel_shuffle", R"("factor":2)", "", "", "", {}, image, five},
        {"channel_shuffle", R"("groups":0)", "", "groups >= 1", "0"},
        {"channel_shuffle", R"("groups":3)", "", "a multiple of the 3 groups", "[2, 4, 8, 6]"},
        {"channel_shuffle", R"("groups":1)", "", "", "[7]", {}, image, vector},
        {"pad", R"("before":[0,0,0,0],"after":[0,0,0])", "", "padding before and after", "4 and 3"},
        {"pad", R"("before":[0,0],"after":[0,0])", "", "", "[2, 4, 8, 6]"},
        {"pad", R"("before":[0,0,-8,0],"after":[0,0,0,0])", "", "elements of axis 2 that are left", ""},
        {"pad", R"("before":[0,0,-1,0],"after":[0,0,0,0],"mode":"reflect")", "", "padding >= 0", "-1"},
        {"pad", R"("before":[0,0,8,0],"after":[0,0,0,0],"mode":"reflect")", "", "padding of less than the 8", "8"},
        {"pad", R"("before":[0,0,9,0],"after":[0,0,0,0],"mode":"circular")", "", "padding of at most the 8", "9"},
        {"pad", R"("before":[0,0,0,0],"after":[0,0,0,0],"mode":"zeros")", ", mode", "constant, reflect", "\"zeros\""},
        {"pad", R"("before":[0,0,0,0])", "", R"(an attribute "after")", "none"},
        {"matmul", "", "", "two inputs", "1"},
        {"dynamic_relu", "", "", "two inputs, an image and coefficients", "1"},
        {"dynamic_relu", "", " coefficients", "[2, 4 * 2M]", "[2, 4, 8, 6]", {}, R"("x","x")"},
        {"matmul", "", "", "a second matrix of 6 rows", "[2, 4, 8, 5]", {}, R"("x","z")", two},
        {"matmul", "", "", "matrices, of rank 2 to 5", "a vector [7]", {}, R"("x","x")", vector},
        {"add", "", "", "can be broadcast", "[2, 4, 8, 6] and [2, 4, 8, 5]", {}, R"("x","z")", two},
    });
}

TEST_CASE("network files: windows that cannot run") {
    const std::string vector = R"([{"name":"x","shape":[7,3]}])";
    const auto pool = [](const char* window, const char* stride, const char* more = "") {
        return concat(R"("window":)", window, R"(,"stride":)", stride, more);
    };
    error_table({
        {"max_pool2d", R"("stride":[2,2])", "", R"(an attribute "window")", "none"},
        {"max_pool2d", R"("window":[2,2])", "", R"(an attribute "stride")", "none"},
        {"max_pool2d", pool("[0,2]", "[1,1]"), "", "window", "0"},
        {"max_pool2d", pool("[2,2]", "[0,1]"), "", "stride", "0"},
        {"max_pool2d", pool("[2,2]", "[1,1]", R"(,"pad":[2,0,0,0])"), "", "padding less than the window", "2"},
        {"max_pool2d", pool("[9,2]", "[1,1]"), "", "an input of at least 9", "8"},
        {"max_pool2d", pool("[2,2]", "[1,1]", R"(,"dilation":[8,1])"), "", "an input of at least 9", "8"},
        {"max_pool2d", pool("[2,2]", "[1,1]", R"(,"dilation":[0,1])"), "", "dilation", "0"},
        {"max_pool2d", pool("[1073741824,1]", "[1,1]"), "", "an input of at least 1073741824", "8"},
        {"max_pool2d", pool("[1,1]", "[1,1]"), "", "", "[7, 3]", {}, R"("x")", vector},
        {"max_pool2d", pool("[2,2]", "[1,1]", R"(,"ceil_mode":1)"), ", ceil_mode", "a boolean", "an integer"},
        {"avg_pool2d", pool("[2,2]", "[1,1]", R"(,"divisor":0)"), "", "a divisor other than 0", "0"},
        {"avg_pool2d", pool("[2,2]", "[1,1]", R"(,"dilation":[1,1])"), "", "attributes of this operation only",
         "\"dilation\""},
        {"avg_pool2d", pool("[9,9]", "[1,1]"), "", "an input of at least 9", "8"},
        {"adaptive_avg_pool2d", R"("size":[1])", ", size", "two extents", "1"},
        {"adaptive_avg_pool2d", R"("size":[0,1])", "", "a size from 1", "0"},
        {"adaptive_avg_pool2d", R"("size":[1,1])", "", "", "[7, 3]", {}, R"("x")", vector},
        {"adaptive_max_pool2d", R"("size":[-1,1])", "", "a size from 1", "-1"},
        {"adaptive_max_pool2d", R"("size":[["div",["dim","x",2],9],1])", "", "a size from 1", "0"},
        {"resize", R"("mode":"bicubic","size":[4,4])", ", mode", "nearest or bilinear", "\"bicubic\""},
        {"resize", R"("mode":"nearest")", "", R"(an attribute "size")", "none"},
        {"resize", R"("mode":"nearest","size":[4])", ", size", "two extents", "1"},
        {"resize", R"("mode":"nearest","size":[0,4])", "", "a size from 1", "0"},
        {"resize", R"("mode":"nearest","scale":[2])", ", scale", "two numbers", "1"},
        {"resize", R"("mode":"nearest","scale":[0,1])", "", "positive and finite", "0"},
        {"resize", R"("mode":"nearest","scale":[-2,1])", "", "positive and finite", "-2"},
        {"resize", R"("mode":"nearest","scale":[0.01,1])", "", "extents from 1 to 2^31", ""},
        {"resize", R"("mode":"nearest","scale":[1e300,1])", "", "extents from 1 to 2^31", ""},
        {"resize", R"("mode":"nearest","scale":["2",1])", ", scale", "a number", "a string"},
        {"resize", R"("mode":"nearest","size":[4,4],"align_corners":true)", "", "align_corners with bilinear", ""},
        {"resize", R"("mode":"nearest","size":[4,4],"scale":[1,1])", "", "attributes of this operation only",
         "\"size\""},
    });
}

TEST_CASE("network files: size without end") {
    const auto many = [](std::size_t count, const std::string& text) {
        std::string out;
        for (std::size_t i = 0; i < count; ++i) out += (i == 0 ? "" : ",") + text;
        return out;
    };
    error_in({}, error_net(many(1'000'000, "{}")), "net, nodes", "at most 65536", "1000000");
    error_in({}, error_net(many(5'000'000, "0")), "net", "at most 4000000 values", "more");
    error_in({}, error_net(error_relu, "[" + many(1025, "{}") + "]"), "net, inputs", "at most 1024", "1025");
    error_in({}, error_net(error_relu, error_image, "[" + many(1025, "{}") + "]"), "net, outputs", "at most 1024",
             "1025");
    error_in({}, error_net(error_node("concat", R"("axis":1)", many(1025, R"("x")"))), "node n1 (concat)", "1 to 1024",
             "1025");
    // Expressions: as deep as they may be, and deeper.
    const auto deep = [](int depth) {
        std::string e = "1";
        for (int i = 0; i < depth; ++i) e = concat(R"(["max",)", e, ",1]");
        return concat(R"("shape":[)", e, ",-1]");
    };
    CHECK_NOTHROW(kdna::load(error_weights({}, error_net(error_node("reshape", deep(32)))), "net"));
    error_in({}, error_net(error_node("reshape", deep(34))), "node n1 (reshape), shape", "at most 32 deep", "deeper");
    error_in({}, error_net(error_node("reshape", deep(100))), "net", "at most 64 deep", "deeper");
    // An expression that names ever more values.
    std::string sum = R"("shape":[)";
    const auto tree = [&](auto& self, int levels, int& next) -> std::string {
        if (levels == 0) return concat(R"(["dim","v)", next++, R"(",0])");
        const std::string a = self(self, levels - 1, next), b = self(self, levels - 1, next);
        return concat(R"(["max",)", a, ",", b, "]");
    };
    int next = 0;
    sum += tree(tree, 16, next) + "]";
    error_in({}, error_net(error_node("reshape", sum)), "node n1 (reshape), shape", "at most 64 values", "more");
    // One tensor copied by every node.
    std::string nodes = error_relu;
    for (int i = 0; i < 3000; ++i)
        nodes += concat(R"(,{"op":"constant","name":"c)", i, R"(","out":"c)", i, R"(","tensors":{"value":"w"}})");
    error_in({{"w", {1'000'000}}}, error_net(nodes), "(constant)", "nodes that copy at most 16 times", "bytes");
}

TEST_CASE("network files: a mean of rows is no gate, whatever the example's width") {
    const auto net = [](const char* width) {
        return concat(R"({"version":1,"inputs":[{"name":"x","shape":[null,4,null,null],"example":[2,4,8,)", width,
                      R"(]}],
"outputs":[{"name":"y","value":"y"}],"nodes":[
{"op":"mean","name":"mean","in":["x"],"out":"mean","axes":[2],"keep":true},
{"op":"conv2d","name":"fc1","in":["mean"],"out":"fc1","tensors":{"weight":"w"}},
{"op":"activation","name":"relu","in":["fc1"],"out":"relu","kind":"relu"},
{"op":"conv2d","name":"fc2","in":["relu"],"out":"fc2","tensors":{"weight":"w"}},
{"op":"activation","name":"gate","in":["fc2"],"out":"gate","kind":"sigmoid"},
{"op":"mul","name":"mul","in":["x","gate"],"out":"mul"},
{"op":"conv2d","name":"conv","in":["mul"],"out":"y","tensors":{"weight":"w"}}]})");
    };
    std::vector<float> x(4 * 8 * 6), y[2];
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.1F * static_cast<float>(i % 13);
    for (const int one : {0, 1}) {
        const kdna::network n = kdna::load(error_weights({{"w", {4, 4, 1, 1}}}, net(one == 1 ? "1" : "6")), "net");
        const kdna::tensor<float> out = n(kdna::nchw_view(x.data(), 1, 4, 8, 6));
        y[one].assign(out.span().begin(), out.span().end());
    }
    CHECK(y[0] == y[1]);
}
