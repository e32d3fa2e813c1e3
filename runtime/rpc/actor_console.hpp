#pragma once

#include <string>
#include <vector>

#include "messages/console.hpp"
#include "runtime/caf/console_desk.hpp"
#include "runtime/rpc/actor_listing.hpp"
#include "runtime/rpc/gateway.hpp"

namespace varve {

/// The actors of this node. What stands in the tree needs no actor's answer; each that lives is asked for the rest at
/// the same time, ahead of its mailbox, and for gateway_options.patience only. Each request is an actor of its own.
class actor_console final : public console_desk {
public:
  /// `to` must outlive it.
  explicit actor_console(const gateway& to) : to_(to) {}

  void tree(std::string path, uint64_t children, answer<std::vector<actor_row>> done) const override;
  void inspect(std::string path, answer<actor_inspection> done) const override;
  void messages(std::string path, answer<std::vector<actor_message>> done) const override;
  void send(std::string path, std::string message, std::vector<argument_value> arguments, std::string by,
            answer<actor_facts> done) const override;
  void kill(std::string path, std::string by, answer<nothing> done) const override;

  static constexpr uint64_t children_max = 4096;
  static constexpr uint64_t rows_max = 8192;

private:
  /// Rows of a place; an error when there are none.
  caf::expected<std::vector<actor_row>> rows(const std::string& path, uint64_t children) const;
  caf::expected<actor_row> row(const std::string& path) const;
  /// All that stands in the tree or in the directory.
  std::vector<actor_info> known() const;
  template <class T, class Body>
  void run(answer<T> done, Body body) const;
  void publish(const char* code, std::string text) const;

  const gateway& to_;
};

} // namespace varve
