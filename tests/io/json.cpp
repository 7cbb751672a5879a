#include <limits>
#include <string>

#include <kdna/io/json.hpp>

#include "io/support.hpp"

namespace {

using kdna::json_limits;
using kdna::json_value;
using kdna::parse_json;
using kind = kdna::json_value::kind;

json_value json_of(const std::string& text, const json_limits& limits = {}) { return parse_json(text, "test", limits); }
/// The value of a text that is an object's only member.
json_value json_member(const std::string& text) { return *json_of("{\"v\":" + text + "}").find("v"); }

void json_rejects(const std::string& text, std::string_view expected, std::string_view found,
                  const json_limits& limits = {}) {
    CAPTURE(text.substr(0, 200));
    io_test::check_error(io_test::error_of([&] { json_of(text, limits); }), "test", expected, found);
}

}  // namespace

TEST_CASE("json: values") {
    const json_value root =
        json_of(R"({"a":null,"b":true,"c":false,"d":7,"e":-2.5,"f":"text","g":[1,[2]],"h":{"i":{}}} )");
    CHECK(root.is == kind::object);
    CHECK(root.keys == std::vector<std::string>{"a", "b", "c", "d", "e", "f", "g", "h"});
    REQUIRE(root.items.size() == root.keys.size());
    CHECK(root.find("a")->is == kind::null);
    CHECK(root.find("b")->is == kind::boolean);
    CHECK(root.find("b")->boolean);
    CHECK_FALSE(root.find("c")->boolean);
    CHECK(root.find("d")->is == kind::integer);
    CHECK(root.find("d")->integer == 7);
    CHECK(root.find("d")->number == 7.0);
    CHECK(root.find("e")->is == kind::number);
    CHECK(root.find("e")->number == -2.5);
    CHECK(root.find("f")->string == "text");
    const json_value& array = *root.find("g");
    REQUIRE(array.items.size() == 2);
    CHECK(array.keys.empty());
    CHECK(array.items[1].items.front().integer == 2);
    CHECK(array.find("a") == nullptr);
    CHECK(root.find("h")->find("i")->is == kind::object);
    CHECK(root.find("i") == nullptr);
    CHECK(root.find("") == nullptr);
    CHECK(json_of("{}").items.empty());
    CHECK(json_of(R"({"":"nameless"})").find("")->string == "nameless");
    CHECK(json_of("{\n\t\"a\" :\r 1 }").find("a")->integer == 1);
    for (const auto& [k, name] :
         {std::pair{kind::null, "null"}, std::pair{kind::boolean, "a boolean"}, std::pair{kind::integer, "an integer"},
          std::pair{kind::number, "a number"}, std::pair{kind::string, "a string"}, std::pair{kind::array, "an array"},
          std::pair{kind::object, "an object"}})
        CHECK(name_of(k) == name);
}

TEST_CASE("json: numbers") {
    CHECK(json_member("9223372036854775807").integer == std::numeric_limits<std::int64_t>::max());
    CHECK(json_member("-9223372036854775808").integer == std::numeric_limits<std::int64_t>::min());
    CHECK(json_member("0").integer == 0);
    CHECK(json_member("-0").is == kind::integer);
    CHECK(json_member("-0").integer == 0);
    CHECK(json_member("9007199254740993").integer == 9007199254740993);
    for (const char* text : {"9223372036854775808", "-9223372036854775809", "18446744073709551615",
                             "18446744073709551616", "123456789012345678901234567890", "-99999999999999999999"})
        json_rejects(std::string("{\"v\":") + text + "}", "integers that fit in 64 bits",
                     std::string(text).substr(0, 10));
    json_rejects("{\"v\":" + std::string(300, '9') + "}", "integers that fit in 64 bits", std::string(40, '9'));
    json_rejects("{\"v\":" + std::string(100'000, '9') + "}", "a JSON text", "number overflow");

    CHECK(json_member("1.0").is == kind::number);
    CHECK(json_member("1e2").is == kind::number);
    CHECK(json_member("1E-2").number == 0.01);
    CHECK(json_member("1.7976931348623157e308").number == std::numeric_limits<double>::max());
    CHECK(json_member("5e-324").number == std::numeric_limits<double>::denorm_min());
    CHECK(json_member("1e-400").number == 0.0);
    CHECK(json_member("0.1").number == 0.1);
    json_rejects(R"({"v":1e400})", "a JSON text", "");
    for (const char* text :
         {"+1", ".5", "1.", "01", "-", "1e", "1e+", "0x10", "NaN", "Infinity", "-Infinity", "1_000", "--1"})
        json_rejects(std::string("{\"v\":") + text + "}", "a JSON text", "at its byte");
}

TEST_CASE("json: strings") {
    CHECK(json_member(R"("\"\\\/\b\f\n\r\t")").string == "\"\\/\b\f\n\r\t");
    CHECK(json_member(R"("\u0041\u00e9\u20ac")").string == "A\xc3\xa9\xe2\x82\xac");
    CHECK(json_member(R"("\ud83d\ude00")").string == "\xf0\x9f\x98\x80");
    CHECK(json_member("\"\xc3\xa9\"").string == "\xc3\xa9");
    CHECK(json_member(R"("\u0000")").string == std::string(1, '\0'));  // an escape, not a byte of the text
    CHECK(json_member(R"("")").string.empty());
    CHECK(json_member('"' + std::string(1'000'000, 'x') + '"').string.size() == 1'000'000);
    CHECK(json_of(R"({"\u0061":1})").find("a")->integer == 1);
    for (const char* text :
         {R"("\x41")", R"("\u12")", R"("\u12G4")", R"("\ud83d")", R"("\ude00\ud83d")", R"("\ud83dx")", "\"\n\"",
          "\"\x01\"", "\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"", "'a'", R"("a)"})
        json_rejects(std::string("{\"v\":") + text + "}", "a JSON text", "at its byte");
}

TEST_CASE("json: keys") {
    json_rejects(R"({"a":1,"a":1})", "every key once", "\"a\" twice");
    json_rejects(R"({"a":1,"\u0061":2})", "every key once", "\"a\" twice");
    json_rejects(R"({"x":[{"b":{},"c":1,"b":[]}]})", "every key once", "\"b\" twice");
    json_rejects(R"({"":1,"":2})", "every key once", "\"\" twice");
    CHECK(json_of(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]})").items.size() == 2);
    for (const char* text : {"{a:1}", "{1:1}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}", "{\"a\" 1}", "{null:1}"})
        json_rejects(text, "a JSON text", "at its byte");
    // Many keys, and no quadratic search for the twins among them.
    std::string many = "{";
    for (int i = 0; i < 200'000; ++i) many += kdna::concat(i == 0 ? "" : ",", "\"k", i, "\":", i);
    CHECK(json_of(many + "}").items.size() == 200'000);
    json_rejects(many + R"(,"k7":0})", "every key once", "\"k7\" twice");
}

TEST_CASE("json: what is not an object's text") {
    for (const char* text : {"", " {}", "[]", "1", "null", "\"{}\"", "\xef\xbb\xbf{}"})
        json_rejects(text, "a JSON object that starts with '{'", "\"");
    for (const char* text : {"{", "{}}", "{}{}", "{} x", "{\"a\":[}", "{\"a\":[1,]}", "{\"a\":[1 2]}", "{]",
                             "{\"a\":tru}", "{\"a\":True}", "{/* */}", "{} //", "{\"a\":1"})
        json_rejects(text, "a JSON text", "at its byte");
    json_rejects(std::string("{\"a\":1}\0", 8), "in JSON", "a NUL at its byte 7");
    json_rejects(std::string("{\"a\0\":1}", 8), "in JSON", "a NUL at its byte 3");
    CHECK(json_of("{} \n\t").items.empty());
}

TEST_CASE("json: limits") {
    const auto nested = [](int depth) {
        return "{\"v\":" + std::string(static_cast<std::size_t>(depth), '[') + "1" +
               std::string(static_cast<std::size_t>(depth), ']') + "}";
    };
    CHECK_NOTHROW(json_of(nested(63)));
    json_rejects(nested(64), "arrays and objects at most 64 deep", "deeper");
    json_rejects("{\"v\":" + std::string(10'000'000, '['), "at most 64 deep", "deeper");
    std::string objects;
    for (int i = 0; i < 100; ++i) objects += "{\"v\":";
    json_rejects(objects, "at most 64 deep", "deeper");
    CHECK_NOTHROW(json_of("{}", {.depth = 1, .values = 1}));
    json_rejects(R"({"v":[]})", "at most 1 deep", "deeper", {.depth = 1, .values = 10});
    CHECK_NOTHROW(json_of(R"({"v":[1,2]})", {.depth = 2, .values = 4}));
    json_rejects(R"({"v":[1,2]})", "at most 3 values", "more", {.depth = 2, .values = 3});
    CHECK_NOTHROW(json_of(R"({"v":[[],[],[[]]]})", {.depth = 4, .values = 6}));
}
