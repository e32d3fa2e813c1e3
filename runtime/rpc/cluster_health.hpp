#pragma once

#include "messages/cluster_view.hpp"

namespace varve {

/// Adds to `x.findings` (those of the leading manager, if it answered) what its members tell, and sums it up in
/// `x.health`. Codes are stable: NO_LEADER, NODE_DOWN, NODE_SUSPECT, NODE_NEVER_SEEN, VERSIONS_DIFFER.
void assess(cluster_view& x);

} // namespace varve
