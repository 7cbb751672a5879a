// A series of numbers with a date each, from a file of comma-separated values.
#pragma once

#include <charconv>
#include <filesystem>
#include <fstream>
#include <kdna/core/error.hpp>
#include <string>
#include <vector>

namespace forecast {

using kdna::index_t;

struct series {
    std::vector<std::string> dates;
    std::vector<float> values;
    [[nodiscard]] index_t size() const { return std::ssize(values); }
};

/// Reads a heading, and then lines "date,number". Throws kdna::error naming the file and the line that is something else.
inline series read_series(const std::filesystem::path& file) {
    std::ifstream in(file);
    if (!in) throw kdna::error(file.string(), "a file that can be read", "none");
    series out;
    std::string line;
    std::getline(in, line);
    for (index_t number = 2; std::getline(in, line); ++number) {
        if (line.ends_with('\r')) line.pop_back();
        const auto comma = line.find(',');
        float value = 0;
        const char* const end = line.data() + line.size();
        const auto parsed = comma == std::string::npos ? std::from_chars_result{nullptr, std::errc::invalid_argument}
                                                       : std::from_chars(line.data() + comma + 1, end, value);
        if (parsed.ec != std::errc() || parsed.ptr != end)
            throw kdna::error(kdna::concat(file.string(), ", line ", number), "date,number", line);
        out.dates.push_back(line.substr(0, comma));
        out.values.push_back(value);
    }
    return out;
}

}  // namespace forecast
