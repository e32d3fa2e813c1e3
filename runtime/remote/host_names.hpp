#pragma once

#include <memory>
#include <string>

namespace varve {

/// Finds the numeric addresses of hosts that are known by name, on threads of its own: a reactor must not wait for a
/// name server. Any thread.
class host_names {
public:
  host_names();

  /// "HOST:PORT" with HOST as a numeric address: as it is when it is numeric; what was last found for a name; empty
  /// when nothing was found yet. What is not known, or was looked up a while ago, is looked up meanwhile.
  std::string find(const std::string& address);

  /// The same, and waits for it. Empty, and why in `problem`.
  static std::string look_up(const std::string& address, std::string& problem);

private:
  struct state;
  std::shared_ptr<state> state_; // outlived by a look-up that takes long
};

} // namespace varve
