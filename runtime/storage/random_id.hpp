#pragma once

#include <cstddef>
#include <string>

namespace varve {

/// Of 128 random bits: nobody else has made the same.
constexpr size_t random_id_letters = 32;

/// Lower-case hexadecimal digits; empty when the system has no randomness.
std::string make_random_id();

} // namespace varve
