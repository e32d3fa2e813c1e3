#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <caf/expected.hpp>

#include "messages/console.hpp"

namespace varve {

/// Where an actor stands, for people: "/NODE" is the node itself, "/NODE/management/catalog" what a node's directory
/// has under "management/catalog". Both empty: all nodes.
struct actor_place {
  std::string node;
  /// As in the node's directory; the node's own is path::root.
  std::string local;
};

/// Takes a path apart; a slash at its end is ignored. errc::invalid_argument for one that does not begin with a slash.
caf::expected<actor_place> place_of(std::string_view path);
std::string path_of(const std::string& node, const std::string& local);

/// Whether one path is listed before another: parents before children, numbers by their value.
bool listed_before(std::string_view a, std::string_view b);

/// The rows of a listing, in order: `actors` (with paths of the directory) from the place on, each with at most
/// `children_max` children, and at most `rows_max` in all. What is left off is counted by its parent, if that is
/// listed.
std::vector<actor_row> list_actors(const std::vector<actor_info>& actors, const actor_place& from,
                                   const std::string& node, uint64_t children_max, uint64_t rows_max);

} // namespace varve
