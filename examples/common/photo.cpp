#include "photo.hpp"

#include <cstddef>
#include <kdna/core/error.hpp>
#include <memory>

// A public-domain header that reads pictures.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#endif
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_FAILURE_USERMSG
#include <stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace examples {

photo load_photo(const std::filesystem::path& file) {
    photo out;
    int channels = 0;
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load(file.string().c_str(), &out.width, &out.height, &channels, 3), stbi_image_free);
    if (!pixels) throw kdna::error(file.string(), "a PNG or JPEG picture", stbi_failure_reason());
    out.rgb.assign(pixels.get(), pixels.get() + std::ptrdiff_t{out.width} * out.height * 3);
    return out;
}

}  // namespace examples
