#pragma once

#include <string>

#include "actors/node_context.hpp"
#include "runtime/reactor/simulated_disk.hpp"

namespace varve::test {

/// What production's scanner tells of a tier's folder, from a simulated disk.
tier_scan scan_folder(const simulated_disk& disk, const std::string& folder);

} // namespace varve::test
