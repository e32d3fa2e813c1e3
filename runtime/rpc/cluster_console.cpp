#include "runtime/rpc/cluster_console.hpp"

#include <algorithm>

#include <caf/sec.hpp>

namespace varve {

namespace {

caf::error not_heard(const std::string& node, const std::string& by) {
  return make_error(errc::unavailable, "node " + node + " is not heard by node " + by);
}

/// Why another node's console gave no answer, for people.
caf::error explained(const std::string& node, const caf::error& e) {
  if (e == caf::sec::request_timeout)
    return make_error(errc::timed_out, "node " + node + " does not answer");
  if (e.category() == caf::atom("system"))
    return make_error(errc::unavailable, "node " + node + " was lost");
  return e;
}

actor_row row_of_silent(const std::string& node, const caf::error& e) {
  actor_row x;
  x.info.path = '/' + node;
  x.info.last_error = context_of(e);
  x.condition = actor_condition::silent;
  return x;
}

/// The rows of all nodes, in their order.
struct gathering {
  std::vector<std::vector<actor_row>> parts;
  size_t left = 0;
};

} // namespace

template <class T, class Body>
void cluster_console::run(caf::timespan timeout, answer<T> done, Body body) const {
  const auto& parts = to_.outside();
  run_request<T>(*parts.system, parts.directory, timeout, nullptr, std::move(done), std::move(body));
}

template <class T, class... Ts>
void cluster_console::ask(const std::string& node, caf::timespan timeout, answer<T> done, Ts... xs) const {
  const auto to = find(node);
  if (!to)
    return done(not_heard(node, to_.options().node), T{});
  run<T>(timeout, std::move(done), [=](auto& r) {
    auto refuse = [&r, node](const caf::error& e) { r.refuse(explained(node, e)); };
    if constexpr (std::is_same_v<T, nothing>)
      r.ask_or(
        to, [&r] { r.finish({}); }, refuse, xs...);
    else
      r.ask_or(
        to, [&r](const T& x) { r.finish(x); }, refuse, xs...);
  });
}

caf::expected<std::string> cluster_console::node_of(const std::string& path) const {
  auto place = place_of(path);
  if (!place)
    return place.error();
  const auto& options = to_.options();
  if (options.nodes.empty())
    return options.node; // which says what there is not
  if (place->node.empty() || std::count(options.nodes.begin(), options.nodes.end(), place->node) != 0)
    return place->node;
  std::string all;
  for (const auto& x : options.nodes)
    all += (all.empty() ? "" : ", ") + x;
  return make_error(errc::not_found, "node " + place->node + "; there are: " + all);
}

console_actor cluster_console::find(const std::string& node) const {
  const auto& directory = *to_.outside().directory;
  if (auto x = directory.get<console_actor>(path::console_of(node)); x || who_ == asked_by::nodes)
    return x;
  for (const auto& manager : to_.options().managers)
    if (auto x = directory.get<console_actor>(path::console_of(manager)); x && manager != node)
      return x;
  return {};
}

void cluster_console::tree(std::string path, uint64_t children, answer<std::vector<actor_row>> done) const {
  const auto node = node_of(path);
  if (!node)
    return done(node.error(), {});
  if (node->empty())
    return tree_of_all(children, std::move(done));
  if (*node == to_.options().node)
    return own_.tree(std::move(path), children, std::move(done));
  ask(*node, patience(), std::move(done), atom::list_v, std::move(path), children);
}

void cluster_console::tree_of_all(uint64_t children, answer<std::vector<actor_row>> done) const {
  auto nodes = to_.options().nodes;
  const auto own = std::find(nodes.begin(), nodes.end(), to_.options().node);
  std::rotate(nodes.begin(), own, own + 1);
  run<std::vector<actor_row>>(to_.options().timeout, std::move(done), [this, nodes, children](auto& r) {
    auto all = std::make_shared<gathering>();
    all->parts.resize(nodes.size());
    all->left = nodes.size();
    auto found = [&r, all](size_t i, std::vector<actor_row> rows) {
      all->parts[i] = std::move(rows);
      if (--all->left > 0)
        return;
      std::vector<actor_row> result;
      for (auto& part : all->parts)
        std::move(part.begin(), part.end(), std::back_inserter(result));
      r.finish(std::move(result));
    };
    using rows = std::vector<actor_row>;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const auto& node = nodes[i];
      // What is known at once is told as all else: later, and on the request's thread.
      r.template wait_for<std::pair<caf::error, rows>>(
        [this, node, children](auto then) {
          answer<rows> passed = [then](caf::error e, rows x) { then({std::move(e), std::move(x)}); };
          if (node == to_.options().node)
            own_.tree('/' + node, children, std::move(passed));
          else
            ask(node, patience(), std::move(passed), atom::list_v, '/' + node, children);
        },
        [i, node, found](const std::pair<caf::error, rows>& x) {
          found(i, x.first ? rows{row_of_silent(node, x.first)} : x.second);
        });
    }
  });
}

void cluster_console::inspect(std::string path, answer<actor_inspection> done) const {
  const auto node = node_of(path);
  if (!node)
    return done(node.error(), {});
  if (node->empty() || *node == to_.options().node)
    return own_.inspect(std::move(path), std::move(done));
  ask(*node, patience(), std::move(done), atom::report_v, std::move(path));
}

void cluster_console::messages(std::string path, answer<std::vector<actor_message>> done) const {
  const auto node = node_of(path);
  if (!node)
    return done(node.error(), {});
  if (node->empty() || *node == to_.options().node)
    return own_.messages(std::move(path), std::move(done));
  ask(*node, patience(), std::move(done), atom::get_v, std::move(path));
}

void cluster_console::send(std::string path, std::string message, std::vector<argument_value> arguments, std::string by,
                           answer<actor_facts> done) const {
  const auto node = node_of(path);
  if (!node)
    return done(node.error(), {});
  if (node->empty() || *node == to_.options().node)
    return own_.send(std::move(path), std::move(message), std::move(arguments), std::move(by), std::move(done));
  console_message x{std::move(path), std::move(message), {}, std::move(by)};
  if (who_ == asked_by::people)
    x.by += ", node " + to_.options().node;
  for (const auto& argument : arguments)
    x.arguments.push_back(to_sent(argument));
  ask(*node, to_.options().timeout_long, std::move(done), atom::send_v, std::move(x));
}

void cluster_console::kill(std::string path, std::string by, answer<nothing> done) const {
  const auto node = node_of(path);
  if (!node)
    return done(node.error(), {});
  if (node->empty() || *node == to_.options().node)
    return own_.kill(std::move(path), std::move(by), std::move(done));
  if (who_ == asked_by::people)
    by += ", node " + to_.options().node;
  ask(*node, to_.options().timeout, std::move(done), atom::kill_v, std::move(path), std::move(by));
}

} // namespace varve
