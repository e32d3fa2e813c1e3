#pragma once

#include <memory>
#include <string>

#include "runtime/config/node_config.hpp"
#include "runtime/remote/remote_plane.hpp"

namespace varve {

/// The data path between this node and the others of its cluster, with as many `reactors` as the data plane will have;
/// it listens if the node has storage. Null, and why in `problem`: an address cannot be resolved or listened at, or a
/// key file is not good. Blocks: names are looked up.
std::shared_ptr<remote_plane> make_remote_plane(const node_config& config, uint64_t incarnation, uint32_t reactors,
                                                std::string& problem);

} // namespace varve
