#include "runtime/rpc/actor_listing.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "messages/errors.hpp"
#include "runtime/caf/directory.hpp"

namespace varve {

namespace {

bool is_number(std::string_view x) {
  return !x.empty() && std::all_of(x.begin(), x.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Of one name within a path: negative when a comes first.
int compare_names(std::string_view a, std::string_view b) {
  if (is_number(a) && is_number(b)) {
    a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
    b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
    if (a.size() != b.size())
      return a.size() < b.size() ? -1 : 1;
  }
  return a.compare(b);
}

std::string_view take_name(std::string_view& path) {
  const auto end = std::min(path.find('/'), path.size());
  const auto name = path.substr(0, end);
  path.remove_prefix(std::min(end + 1, path.size()));
  return name;
}

std::string parent_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

} // namespace

caf::expected<actor_place> place_of(std::string_view path) {
  while (path.ends_with('/'))
    path.remove_suffix(1);
  if (path.empty())
    return actor_place{};
  if (!path.starts_with('/'))
    return make_error(errc::invalid_argument,
                      "actor path \"" + std::string{path} + "\" does not begin with a slash and the node's name");
  path.remove_prefix(1);
  actor_place x;
  x.node = take_name(path);
  x.local = path.empty() ? path::root : std::string{path};
  return x;
}

std::string path_of(const std::string& node, const std::string& local) {
  return local == path::root ? '/' + node : '/' + node + '/' + local;
}

bool listed_before(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty())
    if (const int order = compare_names(take_name(a), take_name(b)); order != 0)
      return order < 0;
  return a.empty() && !b.empty();
}

std::vector<actor_row> list_actors(const std::vector<actor_info>& actors, const actor_place& from,
                                   const std::string& node, uint64_t children_max, uint64_t rows_max) {
  std::vector<actor_row> all;
  const auto first = from.node.empty() ? std::string{} : path_of(node, from.local);
  for (const auto& x : actors) {
    actor_row row;
    row.info = x;
    row.info.path = path_of(node, x.path);
    const auto& path = row.info.path;
    if (path == first || path.starts_with(first + '/'))
      all.push_back(std::move(row));
  }
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return listed_before(a.info.path, b.info.path); });

  std::vector<actor_row> listed;
  std::map<std::string, size_t> at; // of those listed
  std::map<std::string, uint64_t> children;
  std::string left_off; // the latest: what follows below it is left off with it
  for (auto& row : all) {
    const auto path = row.info.path;
    if (!left_off.empty() && path.starts_with(left_off))
      continue;
    const auto parent = parent_of(path);
    if (path != first && (children[parent] >= children_max || listed.size() >= rows_max)) {
      if (auto known = at.find(parent); known != at.end())
        ++listed[known->second].hidden;
      left_off = path + '/';
      continue;
    }
    ++children[parent];
    at[path] = listed.size();
    listed.push_back(std::move(row));
  }
  return listed;
}

} // namespace varve
