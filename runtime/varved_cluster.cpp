#include "runtime/varved_cluster.hpp"

#include <ctime>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/cluster/node_keys.hpp"

namespace varve {

std::string what_is_wrong_with_keys(const node_config& config) {
  const auto& folder = config.cluster.keys_dir;
  for (const auto& x : check_keys(folder, {config.name}, std::time(nullptr)))
    if (!x.problem.empty())
      return fmt::format("{}; the keys of cluster {} belong in {}: see varve cluster keys --help", x.problem,
                         config.cluster.name, folder);
  return {};
}

void closable_link::publish(const node_gate_actor& gate, std::function<void(caf::error)> done) {
  std::lock_guard guard{mutex_};
  if (to_)
    to_->publish(gate, std::move(done));
  else
    done(make_error(errc::unavailable, "the node is stopping"));
}

void closable_link::connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) {
  std::lock_guard guard{mutex_};
  if (to_)
    to_->connect(node, std::move(done));
  else
    done(make_error(errc::unavailable, "the node is stopping"));
}

void closable_link::disconnect(const std::string& node) {
  std::lock_guard guard{mutex_};
  if (to_)
    to_->disconnect(node);
}

void closable_link::close() {
  std::shared_ptr<cluster_link> last; // ends after the lock: it waits for a thread
  std::lock_guard guard{mutex_};
  last.swap(to_);
}

} // namespace varve
