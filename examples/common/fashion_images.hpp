// The test images of Fashion-MNIST: all 10,000 where the Debian package is installed, or the 400 in the repository.
#pragma once

#include <algorithm>
#include <common/fashion_net.hpp>
#include <common/idx.hpp>
#include <common/numbers.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#ifndef KDNA_EXAMPLES_DATA
#define KDNA_EXAMPLES_DATA "examples/data"
#endif

namespace fashion {

inline const std::filesystem::path debian_package = "/usr/share/datasets/fashion-mnist";

/// Images from `folder`, or if that is empty from the package, or with `quick` or without the package from the repository; at most
/// `limit`, 0: all. Says on standard output which they are. Throws kdna::error for files that are something else.
inline examples::labelled_images load_test_images(const std::filesystem::path& from, bool quick, index_t limit) {
    const bool few = quick || (from.empty() && !std::filesystem::exists(debian_package));
    const std::filesystem::path folder = few ? KDNA_EXAMPLES_DATA : from.empty() ? debian_package : from;
    const std::string prefix = few ? "fashion400" : "t10k";
    examples::labelled_images set = examples::load_labelled_images(
        folder / (prefix + "-images-idx3-ubyte.gz"), folder / (prefix + "-labels-idx1-ubyte.gz"), class_count);
    if (set.rows != image_size || set.columns != image_size)
        throw kdna::error(folder.string(), "images of 28 x 28", kdna::concat(set.rows, " x ", set.columns));
    if (limit > 0) set.count = std::min(set.count, limit);
    std::printf("%s Fashion-MNIST test images from %s\n", examples::grouped(set.count).c_str(),
                folder.string().c_str());
    if (few && !quick)
        std::printf("(%s is missing: these are the few in the repository; the package dataset-fashion-mnist has all)\n",
                    debian_package.string().c_str());
    return set;
}

}  // namespace fashion
