#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/rpc/actor_console.hpp"

namespace varve {

/// The actors of all nodes of the cluster: this node's by itself, those of another by asking that node, or, where the
/// two need no connection, a manager. A node by itself has its own only. Each request is an actor of its own.
class cluster_console final : public console_desk {
public:
  /// Nodes are asked of what this one hears itself: a question goes over one node between at most.
  enum class asked_by { people, nodes };

  /// `to` must outlive it.
  cluster_console(const gateway& to, asked_by who) : to_(to), own_(to), who_(who) {}

  /// A node that does not answer is a row of its own: silent, with the reason as its last error. This node's rows come
  /// first.
  void tree(std::string path, uint64_t children, answer<std::vector<actor_row>> done) const override;
  void inspect(std::string path, answer<actor_inspection> done) const override;
  void messages(std::string path, answer<std::vector<actor_message>> done) const override;
  void send(std::string path, std::string message, std::vector<argument_value> arguments, std::string by,
            answer<actor_facts> done) const override;
  void kill(std::string path, std::string by, answer<nothing> done) const override;

private:
  /// Whose the path is: empty for all nodes of the cluster, this node's name for what its own console answers.
  caf::expected<std::string> node_of(const std::string& path) const;
  /// What answers for another node; invalid when it is not heard.
  console_actor find(const std::string& node) const;
  void tree_of_all(uint64_t children, answer<std::vector<actor_row>> done) const;
  /// Passes a request on, and its answer (Ts) back as T.
  template <class T, class Body>
  void run(caf::timespan timeout, answer<T> done, Body body) const;
  template <class T, class... Ts>
  void ask(const std::string& node, caf::timespan timeout, answer<T> done, Ts... xs) const;
  caf::timespan patience() const { return to_.options().patience * (who_ == asked_by::people ? 4 : 2); }

  const gateway& to_;
  actor_console own_;
  asked_by who_;
};

} // namespace varve
