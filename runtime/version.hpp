#pragma once

namespace varve {

/// Of programs, RPC and HTTP; as the project's in CMakeLists.txt.
inline constexpr auto version = VARVE_VERSION;

} // namespace varve
