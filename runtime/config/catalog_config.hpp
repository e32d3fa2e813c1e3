#pragma once

#include <string>

#include "runtime/config/node_config.hpp"
#include "runtime/config/table_reader.hpp"

namespace varve {

/// Reads [catalog]. Relative files start at `folder`; `x.lease` is read already.
void read_catalog(table_reader t, node_config& x, const std::string& folder);

} // namespace varve
