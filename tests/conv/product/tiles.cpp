// How rows are cut into register tiles.
#include <kdna/conv/product/tile.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

using namespace kdna::conv::product;
using kdna::index_t;

namespace {

std::vector<index_t> cut(index_t rows, index_t most) {
    std::vector<index_t> tiles;
    for (; rows > 0; rows -= tiles.back()) tiles.push_back(tile_height_for(rows, most));
    return tiles;
}

const std::vector<index_t> heights(tile_heights.begin(), tile_heights.end());

}  // namespace

TEST_CASE("Tiles have compiled heights and take exactly the rows there are") {
    for (const index_t most : heights)
        for (index_t rows = 1; rows <= 20 * most; ++rows) {
            index_t sum = 0;
            for (const index_t h : cut(rows, most)) {
                REQUIRE(h <= most);
                REQUIRE(std::count(heights.begin(), heights.end(), h) == 1);
                sum += h;
            }
            REQUIRE(sum == rows);
        }
}

TEST_CASE("No tile of a map is so low that it waits for its adds where all heights are compiled") {
    if (static_cast<index_t>(heights.size()) < max_tile_height) return;
    for (index_t rows = 8; rows <= 40 * max_tile_height; ++rows) {
        const std::vector<index_t> tiles = cut(rows, max_tile_height);
        CAPTURE(rows);
        CHECK(*std::min_element(tiles.begin(), tiles.end()) >= 4);
        CHECK(static_cast<index_t>(tiles.size()) == kdna::ceil_div(rows, max_tile_height));
    }
}

TEST_CASE("The maps of the published networks are cut evenly") {
    for (const index_t extent : {7, 14, 28, 56, 112}) {
        const std::vector<index_t> tiles = cut(extent * extent, max_tile_height);
        CAPTURE(extent);
        CHECK(*std::min_element(tiles.begin(), tiles.end()) >= std::min<index_t>(7, max_tile_height - 2));
    }
}

TEST_CASE("A part of a map that begins before its lower tiles has the tiles of the map") {
    for (const index_t most : heights)
        for (index_t rows = 1; rows <= 20 * most; ++rows) {
            const std::vector<index_t> whole = cut(rows, most);
            const index_t lower = lower_tile_rows(rows, most);
            REQUIRE(lower <= rows);
            REQUIRE((rows - lower) % most == 0);
            for (index_t first = 0; first <= rows - lower && first < rows; first += most) {
                const std::vector<index_t> part = cut(rows - first, most);
                REQUIRE(std::equal(part.rbegin(), part.rend(), whole.rbegin()));
                // A part that ends before them consists of the tallest tiles.
                const std::vector<index_t> before = cut(first, most);
                REQUIRE(std::count(before.begin(), before.end(), most) == first / most);
            }
        }
}
