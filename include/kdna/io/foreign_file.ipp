// Definitions of foreign_file.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>

#include <kdna/io/foreign_file.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// What follows a byte order mark and blanks.
[[nodiscard]] inline std::string_view first_text(std::string_view head) {
    if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
    const auto begin = head.find_first_not_of(" \t\r\n");
    return begin == head.npos ? std::string_view() : head.substr(begin);
}

// Whether the text begins so, whatever the case of its letters. `start` is in lower case.
[[nodiscard]] inline bool begins_with_any_case(std::string_view text, std::string_view start) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return text.size() >= start.size() &&
           std::equal(start.begin(), start.end(), text.begin(), [&](char a, char b) { return a == lower(b); });
}

KDNA_FUNC bool begins_json_object(std::string_view head) {
    head = first_text(head);
    if (!head.starts_with('{')) return false;
    // A length of 123 begins with this byte as well, but no blank, quote or brace follows there.
    head = first_text(head.substr(1));
    return head.starts_with('"') || head.starts_with('}');
}

KDNA_FUNC std::string_view foreign_file(std::string_view head) {
    using namespace std::string_view_literals;
    struct kind {
        std::string_view start, description;
    };
    static constexpr std::array kinds{
        kind{"PK\x03\x04"sv,
             "a zip archive, as torch.save writes (.pth, .pt, .bin, .ckpt): tools/export.py makes a safetensors file "
             "of it"},
        kind{"PK\x05\x06"sv, "an empty zip archive"},
        kind{"version https://git-lfs"sv,
             "a Git LFS pointer in place of the file: \"git lfs pull\" fetches the file itself"},
        kind{"GGUF"sv, "a GGUF file, which holds a language model for llama.cpp and cannot be read here"},
        kind{"\x93NUMPY"sv, "a NumPy array (.npy), which load_npy reads; weights are a safetensors file"},
        kind{"\x89HDF\r\n\x1a\n"sv, "an HDF5 file, as Keras writes: export the weights as safetensors"},
        kind{"\x1f\x8b"sv, "a gzip archive: unpack it first"}};
    for (const kind& k : kinds)
        if (head.starts_with(k.start)) return k.description;
    // A pickle of protocol 2 to 5, and then an opcode, which is never 0.
    if (head.size() > 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5 && head[2] != '\0')
        return "a pickle, as older torch.save writes (.pth, .pt, .tar): tools/export.py makes a safetensors file of it";
    const std::string_view text = first_text(head);
    if (begins_with_any_case(text, "<!doctype html") || begins_with_any_case(text, "<html"))
        return "an HTML page, such as a login or error page: download the file itself (from Hugging Face with resolve/ "
               "in "
               "place of blob/)";
    if (begins_with_any_case(text, "<?xml"))
        return "an XML text, such as a server's error message: download the file again";
    if (begins_json_object(head))
        return "a JSON text: load_safetensors reads an index of shards (model.safetensors.index.json) by its path, "
               "with the "
               "shards beside it";
    return {};
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
