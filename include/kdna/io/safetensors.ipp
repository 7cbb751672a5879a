// Definitions of safetensors.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/error.hpp>
#include <kdna/io/dtype.hpp>
#include <kdna/io/file.hpp>
#include <kdna/io/foreign_file.hpp>
#include <kdna/io/json_text.hpp>
#include <kdna/io/safetensors.hpp>
#include <kdna/io/shard_index.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// The limit of the reference implementation.
inline constexpr index_t max_safetensors_header = 100'000'000;

// What the header says about one tensor. Nothing in it is true before check_layout.
struct safetensors_entry {
    std::string name;
    dtype type = dtype::f32;
    std::vector<index_t> shape;
    std::vector<index_t> offsets;  // begin, end
};

struct safetensors_header {
    std::vector<safetensors_entry> entries;
    std::map<std::string, std::string> metadata;
};

[[nodiscard]] inline std::string tensor_in_file(std::string_view file, std::string_view name) {
    return concat(file, ", tensor \"", printable(name), "\"");
}

// Receives the header's JSON piece by piece. SAX, because a DOM would have merged duplicate keys and made objects and
// numbers of things that have no place in a header. Every event that does not fit the state ends in a kdna::error.
class safetensors_sax final : public nlohmann::json_sax<nlohmann::json> {
public:
    safetensors_sax(safetensors_header& out, std::string_view file) : out_(out), file_(file) {}

    bool start_object(std::size_t) override {
        if (at_ == place::start)
            at_ = place::top;
        else if (at_ == place::tensor)
            at_ = place::fields;
        else if (at_ == place::metadata)
            at_ = place::metadata_fields;
        else
            unexpected("an object");
        return true;
    }

    bool key(string_t& name) override {
        if (at_ == place::top) {
            if (!names_.insert(name).second)
                throw error(tensor_in_file(file_, name), "every key once", "a duplicate key");
            if (name == "__metadata__") {
                at_ = place::metadata;
            } else {
                check_tensor_name(name, tensor_in_file(file_, name));
                out_.entries.emplace_back().name = name;
                seen_.fill(false);
                at_ = place::tensor;
            }
        } else if (at_ == place::fields) {
            begin_field(name);
        } else {
            const auto [item, fresh] = out_.metadata.try_emplace(name);
            if (!fresh) throw error(where(), "every key once", concat("a duplicate key \"", printable(name), "\""));
            metadata_value_ = &item->second;
            at_ = place::metadata_value;
        }
        return true;
    }

    bool end_object() override {
        if (at_ == place::fields) {
            for (std::size_t i = 0; i < field_names.size(); ++i)
                if (!seen_[i]) throw error(where(), "dtype, shape and data_offsets", concat("no ", field_names[i]));
            at_ = place::top;
        } else if (at_ == place::metadata_fields) {
            at_ = place::top;
        }
        return true;  // otherwise the end of the header
    }

    bool start_array(std::size_t) override {
        if (at_ == place::shape)
            at_ = place::extents;
        else if (at_ == place::offsets)
            at_ = place::offset_values;
        else
            unexpected("an array");
        return true;
    }

    bool end_array() override {
        if (at_ == place::offset_values && entry().offsets.size() != 2)
            throw error(where(), "two data_offsets", concat(entry().offsets.size()));
        at_ = place::fields;
        return true;
    }

    bool string(string_t& text) override {
        if (at_ == place::metadata_value) {
            *metadata_value_ = text;
            at_ = place::metadata_fields;
        } else if (at_ == place::type) {
            const auto known = std::find_if(safetensors_dtypes.begin(), safetensors_dtypes.end(),
                                            [&](const auto& candidate) { return candidate.first == text; });
            if (known == safetensors_dtypes.end())
                throw error(where(), "a dtype that kdna knows (F32, F64, F16, BF16, I64, I32, I16, I8, U8, BOOL)",
                            concat("\"", printable(text), "\""));
            entry().type = known->second;
            at_ = place::fields;
        } else {
            unexpected(concat("the string \"", printable(text), "\""));
        }
        return true;
    }

    bool number_unsigned(number_unsigned_t value) override {
        if (at_ != place::extents && at_ != place::offset_values) unexpected(concat("the number ", value));
        if (!std::in_range<index_t>(value)) throw error(where(), "numbers less than 2^63", concat(value));
        auto& numbers = at_ == place::extents ? entry().shape : entry().offsets;
        const std::size_t most = at_ == place::extents ? max_rank : 2;
        if (numbers.size() == most)
            throw error(where(), concat("at most ", most, at_ == place::extents ? " extents" : " data_offsets"),
                        "more");
        numbers.push_back(static_cast<index_t>(value));
        return true;
    }

    bool null() override { unexpected("null"); }
    bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
    bool number_integer(number_integer_t value) override { unexpected(concat("the negative number ", value)); }
    bool number_float(number_float_t, const string_t& text) override {
        unexpected(concat("the number ", printable(text, 40)));
    }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& failure) override {
        throw error(where(), "a header in JSON", json_failure(position, failure));
    }

private:
    // Where in the header the next event belongs.
    // clang-format off
    enum class place {
        start, top, tensor, fields, type, shape, extents, offsets, offset_values,
        metadata, metadata_fields, metadata_value
    };
    // clang-format on
    static constexpr std::array<std::string_view, 3> field_names{"dtype", "shape", "data_offsets"};
    static constexpr std::array<place, 3> field_places{place::type, place::shape, place::offsets};

    void begin_field(std::string_view name) {
        const auto field = std::find(field_names.begin(), field_names.end(), name);
        if (field == field_names.end())
            throw error(where(), "only dtype, shape and data_offsets", concat("\"", printable(name), "\""));
        const auto i = static_cast<std::size_t>(field - field_names.begin());
        if (seen_[i]) throw error(where(), concat(name, " once"), "it twice");
        seen_[i] = true;
        at_ = field_places[i];
    }

    [[noreturn]] void unexpected(std::string_view found) const {
        const auto expected = [this]() -> std::string_view {
            switch (at_) {
                case place::start: return "a JSON object as header";
                case place::tensor: return "an object with dtype, shape and data_offsets";
                case place::type: return "a string as dtype";
                case place::shape: return "an array as shape";
                case place::extents: return "extents that are whole numbers from 0 to 2^63 - 1";
                case place::offsets: return "an array as data_offsets";
                case place::offset_values: return "data_offsets that are whole numbers from 0 to 2^63 - 1";
                case place::metadata: return "an object of strings";
                case place::metadata_value: return "a string";
                case place::top:
                case place::fields:
                case place::metadata_fields: break;  // only a key or the end comes here
            }
            return "the next key";
        };
        throw error(where(), std::string(expected()), std::string(found));
    }

    [[nodiscard]] std::string where() const {
        switch (at_) {
            case place::start:
            case place::top: return std::string(file_);
            case place::metadata:
            case place::metadata_fields:
            case place::metadata_value: return concat(file_, ", __metadata__");
            default: return tensor_in_file(file_, out_.entries.back().name);
        }
    }
    [[nodiscard]] safetensors_entry& entry() { return out_.entries.back(); }

    safetensors_header& out_;
    std::string_view file_;
    place at_ = place::start;
    std::set<std::string, std::less<>> names_;
    std::array<bool, 3> seen_{};
    std::string* metadata_value_ = nullptr;
};

[[nodiscard]] inline safetensors_header parse_safetensors_header(std::string_view text, std::string_view file) {
    check_json_text(text, "a header", file);
    safetensors_header out;
    safetensors_sax handler(out, file);
    nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &handler);
    return out;
}

// Puts the entries in the order of their data, and makes sure that they are `data_bytes` bytes without overlap or hole.
inline void check_layout(std::vector<safetensors_entry>& entries, index_t data_bytes, std::string_view file) {
    for (const auto& e : entries) {
        const std::string where = tensor_in_file(file, e.name);
        const index_t begin = e.offsets[0], end = e.offsets[1];
        const std::string found = concat("data_offsets ", begin, " to ", end);
        if (begin > end) throw error(where, "data that does not end before it begins", found);
        if (end > data_bytes) throw error(where, concat("data within the ", data_bytes, " bytes there are"), found);
        const index_t bytes = byte_count(e.type, e.shape, where);
        if (end - begin != bytes) throw error(where, concat(bytes, " bytes for ", to_string(e.type, e.shape)), found);
    }
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.offsets < b.offsets; });
    index_t reached = 0;
    for (const auto& e : entries) {
        const index_t begin = e.offsets[0];
        if (begin != reached)
            throw error(tensor_in_file(file, e.name),
                        concat("data from byte ", reached, " on, where the tensor before ends"),
                        concat("data from byte ", begin, begin < reached ? " on: an overlap" : " on: a hole"));
        reached = e.offsets[1];
    }
    if (reached != data_bytes)
        throw error(std::string(file), concat(reached, " bytes of tensor data"),
                    concat(data_bytes, ": ", data_bytes - reached, " bytes belong to no tensor"));
}

// Whether a file begins as safetensors files do: with a possible length of the header, and '{'.
[[nodiscard]] inline bool begins_safetensors(std::string_view head) {
    std::uint64_t length = 0;
    if (head.size() <= sizeof(length) || head[sizeof(length)] != '{') return false;
    std::memcpy(&length, head.data(), sizeof(length));
    return length <= static_cast<std::uint64_t>(max_safetensors_header);
}

template <class Source>
[[nodiscard]] state_dict read_safetensors(Source& in) {
    constexpr index_t before = 8;
    if (const std::string head = in.peek(recognised_bytes); !begins_safetensors(head))
        if (const std::string_view other = foreign_file(head); !other.empty())
            throw error(in.name(), "a safetensors file", std::string(other));
    if (in.size() < before)
        throw error(in.name(), "a safetensors file, starting with 8 bytes of header length",
                    concat(in.size(), in.size() == 0 ? " bytes: an empty file" : " bytes"));
    std::array<std::uint64_t, 1> length{};
    in.read(std::as_writable_bytes(std::span(length)));
    if (length[0] > static_cast<std::uint64_t>(max_safetensors_header))
        throw error(in.name(), concat("a header of at most ", max_safetensors_header, " bytes"),
                    concat(length[0], " bytes"));
    const auto header_bytes = static_cast<index_t>(length[0]);
    if (header_bytes > in.size() - before)
        throw error(in.name(), concat("a header of ", header_bytes, " bytes, as the file says"),
                    concat(in.size() - before, " bytes after its length"));
    std::string text(static_cast<std::size_t>(header_bytes), '\0');
    in.read(std::as_writable_bytes(std::span(text)));
    safetensors_header header = parse_safetensors_header(text, in.name());
    check_layout(header.entries, in.size() - before - header_bytes, in.name());

    state_dict out;
    for (auto& e : header.entries) {
        tensor_data tensor(e.type, std::move(e.shape), e.name);
        in.read(tensor.bytes());
        out.add(std::move(e.name), std::move(tensor));
    }
    out.metadata() = std::move(header.metadata);
    return out;
}

// The tensors of all shards that an index names, which must be exactly those that it names.
[[nodiscard]] inline state_dict read_shards(file_source& in, const std::filesystem::path& folder) {
    if (in.size() > max_safetensors_header)
        throw error(in.name(), concat("an index of at most ", max_safetensors_header, " bytes"),
                    concat(in.size(), " bytes"));
    std::string text(static_cast<std::size_t>(in.size()), '\0');
    in.read(std::as_writable_bytes(std::span(text)));
    const shard_map index = parse_shard_index(text, in.name());
    std::set<std::string_view> files;
    for (const auto& [name, file] : index) files.insert(file);

    state_dict out;
    for (const std::string_view file : files) {
        file_source shard(folder / file);
        state_dict part = read_safetensors(shard);
        for (const std::string& name : part.names()) {
            const auto entry = index.find(name);
            if (entry == index.end() || entry->second != file)
                throw error(tensor_in_file(shard.name(), name), concat("a tensor that ", in.name(), " looks for here"),
                            entry == index.end() ? std::string("one that it does not name")
                                                 : concat("one that it looks for in ", entry->second));
            out.add(name, part.extract(name));
        }
        for (const auto& [key, value] : part.metadata())
            if (const auto [entry, fresh] = out.metadata().try_emplace(key, value); entry->second != value)
                throw error(concat(shard.name(), ", __metadata__"),
                            concat("the same \"", printable(key), "\" in every shard"), "another value");
    }
    for (const auto& [name, file] : index)
        if (!out.contains(name))
            throw error(tensor_in_file(in.name(), name), concat("a tensor in ", file), "no such tensor");
    return out;
}

}  // namespace detail

KDNA_FUNC state_dict parse_safetensors(std::span<const std::byte> bytes, std::string_view source) {
    detail::memory_source in(bytes, source);
    return detail::read_safetensors(in);
}

KDNA_FUNC state_dict load_safetensors(const std::filesystem::path& path) {
    detail::file_source in(path);
    const std::string head = in.peek(detail::recognised_bytes);
    if (!detail::begins_safetensors(head) && detail::begins_json_object(head))
        return detail::read_shards(in, path.parent_path());
    return detail::read_safetensors(in);
}

KDNA_FUNC state_dict load_safetensors(const std::filesystem::path& path, const load_options& options) {
    state_dict out = load_safetensors(path);
    if (!options.overlay.empty()) {
        try {
            out.replace(load_safetensors(options.overlay));
        } catch (const error& e) {
            const std::string file = detail::file_name(options.overlay);
            if (e.where().starts_with(file)) throw;
            throw error(concat(file, ", ", e.where()), e.expected(), e.found());
        }
    }
    out.set_options(options);
    return out;
}

KDNA_FUNC void save_safetensors(const std::filesystem::path& path, const state_dict& dict) {
    std::vector<const state_dict::tensor_map::value_type*> tensors;
    for (const auto& item : dict.tensors()) tensors.push_back(&item);
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto* a, const auto* b) {
        return size_of(a->second.type()) > size_of(b->second.type());
    });

    std::string metadata;
    for (const auto& [key, value] : dict.metadata())
        metadata += concat(metadata.empty() ? "" : ",", detail::json_string(key), ":", detail::json_string(value));
    std::string header = dict.metadata().empty() ? "{" : concat("{\"__metadata__\":{", metadata, "}");
    index_t end = 0;
    for (const auto* item : tensors) {
        const std::string& name = item->first;
        const tensor_data& tensor = item->second;
        if (name == "__metadata__") throw error(name, "another tensor name", "the name of the file's metadata");
        const auto type = std::find_if(detail::safetensors_dtypes.begin(), detail::safetensors_dtypes.end(),
                                       [&](const auto& candidate) { return candidate.second == tensor.type(); });
        const index_t begin = end;
        end = checked_add(end, static_cast<index_t>(tensor.bytes().size()), name);
        std::string shape;
        for (const index_t extent : tensor.shape()) shape += concat(shape.empty() ? "" : ",", extent);
        header += concat(header.size() > 1 ? "," : "", detail::json_string(name), R"(:{"dtype":")", type->first,
                         R"(","shape":[)", shape, R"(],"data_offsets":[)", begin, ",", end, "]}");
    }
    header += '}';
    while (header.size() % 8 != 0) header += ' ';
    if (static_cast<index_t>(header.size()) > detail::max_safetensors_header)
        throw error(detail::file_name(path), concat("a header of at most ", detail::max_safetensors_header, " bytes"),
                    concat(header.size(), " bytes"));

    const std::array<std::uint64_t, 1> length{header.size()};
    detail::replace_file(path, [&](std::ostream& out) {
        detail::write_bytes(out, std::as_bytes(std::span(length)));
        detail::write_bytes(out, header);
        for (const auto* item : tensors) detail::write_bytes(out, item->second.bytes());
    });
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
