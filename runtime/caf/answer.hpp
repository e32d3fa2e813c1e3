#pragma once

#include <functional>

#include <caf/error.hpp>

namespace varve {

/// Called once, on any thread, with an error or a value; must only pass it on.
template <class T>
using answer = std::function<void(caf::error, T)>;

/// The result of a request that only says that it was done.
struct nothing {};

} // namespace varve
