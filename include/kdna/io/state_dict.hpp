// Named tensors of a model file, and the reader that makes sure each of them is asked for and has the expected shape.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/io/dtype.hpp>
#include <kdna/io/to_float32.hpp>

namespace kdna::inline KDNA_ABI {

/// An owning tensor as files have it: element type, shape (empty for a scalar) and its bytes, row-major, little endian,
/// 64-byte aligned whatever the alignment in the file. Move only.
class tensor_data {
public:
    /// Zeros. Throws kdna::error for a negative extent, more than 32 extents, or a size that overflows; `where` names
    /// the tensor in it.
    tensor_data(dtype type, std::vector<index_t> shape, std::string_view where = "tensor")
        : type_(type), shape_(std::move(shape)), bytes_(detail::byte_count(type_, shape_, where)) {}

    /// A copy of `values`, one for each element of `shape`. Throws kdna::error if their number differs.
    template <class T>
    [[nodiscard]] static tensor_data copy_of(std::vector<index_t> shape, std::span<const T> values,
                                             std::string_view where = "tensor") {
        tensor_data out(detail::dtype_of<T>::value, std::move(shape), where);
        if (values.size_bytes() != out.bytes().size())
            throw error(std::string(where), concat("values for ", kdna::to_string(out.type_, out.shape_)),
                        concat(values.size(), " values"));
        if (!values.empty()) std::memcpy(out.bytes_.data(), values.data(), values.size_bytes());
        return out;
    }

    [[nodiscard]] dtype type() const noexcept { return type_; }
    [[nodiscard]] const std::vector<index_t>& shape() const noexcept { return shape_; }
    [[nodiscard]] std::span<std::byte> bytes() noexcept { return bytes_.span(); }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_.span(); }

    /// The elements as float, double or an integer of the stored width. Throws kdna::error if T is not the element
    /// type.
    template <class T>
    [[nodiscard]] std::span<const T> values(std::string_view where = "tensor") const {
        if (type_ != detail::dtype_of<T>::value)
            throw error(std::string(where), concat(name_of(detail::dtype_of<T>::value)), concat(name_of(type_)));
        return {reinterpret_cast<const T*>(bytes_.data()), static_cast<std::size_t>(bytes_.bytes()) / sizeof(T)};
    }

private:
    dtype type_;
    std::vector<index_t> shape_;
    buffer<std::byte> bytes_;
};

namespace detail {

KDNA_FUNC void check_tensor_name(std::string_view name, std::string_view where);

}  // namespace detail

/// How a file's kernels become a network's.
struct load_options {
    /// How convolutions' and linear layers' kernels, mixtures of kernels and warehouses of cells are stored; nothing: as the file has
    /// each of them (float64 as float32). Everything else becomes float32. 16 bits take half the memory; docs/numerics.md has
    /// what they cost in accuracy.
    std::optional<number_format> storage = number_format::float32;
    /// A second .safetensors file, with adapters that were trained on top of the first (kdna/train/): every tensor in it takes the
    /// place of one of the same name and shape. Empty: none.
    std::filesystem::path overlay{};
};
/// load_options::storage by name: "float32", "float16", "bfloat16", or "file" for as the file has them. Throws kdna::error for another
/// name.
[[nodiscard]] KDNA_FUNC std::optional<number_format> storage_named(std::string_view name);

/// Tensors by name, in the order of their names, and the free-form metadata of the file they came from. Move only.
class state_dict {
public:
    using tensor_map = std::map<std::string, tensor_data, std::less<>>;

    /// Throws kdna::error for a name that is there already, is empty or contains control characters.
    KDNA_FUNC void add(std::string name, tensor_data tensor);

    [[nodiscard]] bool contains(std::string_view name) const { return tensors_.contains(name); }
    [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(tensors_.size()); }

    [[nodiscard]] KDNA_FUNC std::vector<std::string> names() const;

    /// Throws kdna::error if there is no such tensor.
    [[nodiscard]] KDNA_FUNC const tensor_data& at(std::string_view name) const;

    /// Takes a tensor out. Throws kdna::error if there is no such tensor.
    KDNA_FUNC tensor_data extract(std::string_view name);

    /// Puts every tensor of `other` in the place of the one that has its name. Both must have one shape, and one element type or
    /// two from which float32 can be made. Throws kdna::error, and changes nothing, naming the tensor that does not fit, what was
    /// expected, and what was found.
    KDNA_FUNC void replace(state_dict&& other);

    /// Removes `prefix` from all names, as the "module." that torch's DataParallel puts before them. Returns false, and
    /// changes nothing, if no name has it. Throws kdna::error, and changes nothing, if only some names have it or a
    /// name is nothing else.
    KDNA_FUNC bool strip_prefix(std::string_view prefix = "module.");

    /// Removes from all names what they have in common of `prefixes`, in any order and number: "_orig_mod.module.". Returns
    /// it. Throws kdna::error, and changes nothing, if one of them then stands before some names only, or a name is nothing
    /// else.
    KDNA_FUNC std::string strip_prefixes(std::span<const std::string_view> prefixes);

    [[nodiscard]] const tensor_map& tensors() const noexcept { return tensors_; }

    /// How networks that are made of these tensors store their kernels; float32 at first.
    [[nodiscard]] const load_options& options() const noexcept { return options_; }
    void set_options(const load_options& options) noexcept { options_ = options; }

    /// The string to string `__metadata__` of a safetensors file.
    [[nodiscard]] std::map<std::string, std::string>& metadata() noexcept { return metadata_; }
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

private:
    KDNA_FUNC static error missing(std::string_view name);

    tensor_map tensors_;
    std::map<std::string, std::string> metadata_;
    load_options options_{};
};

namespace detail {

// The least number of characters to insert, remove or replace to turn a into b.
[[nodiscard]] KDNA_FUNC std::size_t edit_distance(std::string_view a, std::string_view b);

// Whether `have` is probably what `want` was meant to be: it has a prefix more or less, or is a few letters off.
// Numbers must agree, or every layer would be taken for its neighbour.
[[nodiscard]] KDNA_FUNC bool similar_names(std::string_view want, std::string_view have);

}  // namespace detail

/// Strict consumption of a state_dict: every tensor that is asked for must be there with the expected type and shape,
/// and `finish()` insists that every tensor there was asked for. Copies and scopes share the record of what was taken.
/// Float32 may be stored as float16, bfloat16 or float64: such a tensor is converted once, when it is taken.
/// The state_dict must outlive the reader, and the spans it hands out, unchanged. Spans of converted tensors are valid as long
/// as the reader or one of its copies and scopes lives.
class state_dict_reader {
public:
    explicit state_dict_reader(const state_dict& dict) : dict_(&dict), record_(std::make_shared<record>()) {}
    explicit state_dict_reader(const state_dict&&) = delete;

    /// The same reader with `prefix` put before every name: `scope("layer3.").take("conv2.weight", ...)` takes
    /// "layer3.conv2.weight". Scopes nest.
    [[nodiscard]] KDNA_FUNC state_dict_reader scope(std::string_view prefix) const;

    /// A reader that knows tensors by other names: those of `names`, which maps what is asked for, prefix included, to what the
    /// file calls it, and no others. Scopes of it do, too.
    [[nodiscard]] KDNA_FUNC state_dict_reader renamed(std::map<std::string, std::string> names) const;
    /// Throws kdna::error if there is one of these names that nobody has asked for.
    KDNA_FUNC void finish_renamed() const;

    /// What `scope` has put before the names; empty for the whole file.
    [[nodiscard]] const std::string& prefix() const noexcept { return prefix_; }

    /// Whether there is such a tensor. Does not count as taking it.
    [[nodiscard]] bool contains(std::string_view name) const { return dict_->contains(key_of(name)); }

    /// Shape of a tensor, to infer widths from. Does not count as taking it. Throws kdna::error if there is none.
    [[nodiscard]] KDNA_FUNC const std::vector<index_t>& shape_of(std::string_view name) const;

    /// Extent `axis` of a tensor that must have `rank` of them, to infer widths from. Does not count as taking it. Throws
    /// kdna::error if there is no such tensor or it has another rank.
    [[nodiscard]] KDNA_FUNC index_t extent(std::string_view name, std::size_t axis, std::size_t rank) const;

    /// The values of a tensor of exactly this shape and of element type T, float32 unless said otherwise; taking one twice is
    /// fine. Throws kdna::error naming the tensor, what was expected and what was found, if it is missing or has another type
    /// or shape, or a float64 is too large for float32.
    template <class T = float>
    [[nodiscard]] std::span<const T> take(std::string_view name, const std::vector<index_t>& shape) const {
        const std::string key = key_of(name);
        const tensor_data& tensor = take_as(key, detail::dtype_of<T>::value, shape);
        if constexpr (std::is_same_v<T, float>)
            if (tensor.type() != dtype::f32) return converted(key, tensor);
        return tensor.template values<T>(key);
    }

    /// The value of an int64 scalar, such as BatchNorm's `num_batches_tracked`. Throws kdna::error as `take` does.
    KDNA_FUNC std::int64_t take_i64_scalar(std::string_view name) const;

    /// Takes a count that nothing is computed from, BatchNorm's `num_batches_tracked`, in any form in which it is written: a
    /// scalar or one element, an integer or floating, or not at all. Throws kdna::error if it is something else.
    KDNA_FUNC void take_count(std::string_view name) const;

    /// The format in which a kernel that is made of this tensor is stored (load_options), to be asked for once it was taken. Throws
    /// kdna::error if there is no such tensor.
    [[nodiscard]] KDNA_FUNC number_format storage_of(std::string_view name) const;

    /// What was converted to float32 so far and does not stay what it was, by this reader, its copies and scopes.
    [[nodiscard]] KDNA_FUNC std::vector<float32_conversion> conversions() const;

    /// Throws kdna::error naming the first few tensors (of this scope) that were not taken, if there are any.
    KDNA_FUNC void finish() const;

private:
    struct record {
        std::set<std::string, std::less<>> taken;
        std::map<std::string, detail::float32_values, std::less<>> converted;
        std::set<std::string, std::less<>> kept;  ///< in 16 bits
    };

    [[nodiscard]] KDNA_FUNC const tensor_data& find(const std::string& key, const std::string& expected) const;

    [[nodiscard]] KDNA_FUNC const tensor_data& take_as(const std::string& key, dtype type,
                                                       const std::vector<index_t>& shape) const;

    [[nodiscard]] KDNA_FUNC std::span<const float> converted(const std::string& key, const tensor_data& tensor) const;

    /// The name in the file. One that `renamed` has not is that of no tensor.
    [[nodiscard]] KDNA_FUNC std::string key_of(std::string_view name) const;

    const state_dict* dict_;
    struct other_names {
        std::map<std::string, std::string> names;
        std::set<std::string, std::less<>> asked{};
    };
    std::shared_ptr<other_names> names_{};
    std::shared_ptr<record> record_;
    std::string prefix_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/state_dict.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
