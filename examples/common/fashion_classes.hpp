// The ten classes of Fashion-MNIST.
#pragma once

#include <array>

namespace examples {

inline constexpr std::array<const char*, 10> fashion_classes{"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                                             "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

}  // namespace examples
