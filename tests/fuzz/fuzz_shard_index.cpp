// libFuzzer: any text is either an index whose shards lie in its folder, or a kdna::error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <kdna/core/error.hpp>
#include <kdna/io/shard_index.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const std::string text(data, data + size);
        for (const auto& [name, file] : kdna::detail::parse_shard_index(text, "fuzz"))
            if (name.empty() || file.empty() || file == "." || file == ".." ||
                file.find_first_of(std::string("/\\:\0", 4)) != file.npos)
                std::abort();
    } catch (const kdna::error&) {
    }
    return 0;
}
