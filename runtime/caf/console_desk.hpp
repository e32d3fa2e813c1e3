#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "messages/console.hpp"
#include "runtime/caf/answer.hpp"

namespace varve {

/// Actors as people look at them, by paths that begin with a node's name. Any thread. What is refused: errc::not_found
/// for a node or an actor that is not there, errc::invalid_argument for a path that is none, errc::unavailable and
/// errc::timed_out for a node that is not heard.
class console_desk {
public:
  virtual ~console_desk() = default;

  /// The actors from a path on, parents before children; those of all nodes when it is empty or "/". Of each actor at
  /// most so many children; 0: as many as one request shows.
  virtual void tree(std::string path, uint64_t children, answer<std::vector<actor_row>> done) const = 0;
  virtual void inspect(std::string path, answer<actor_inspection> done) const = 0;
  virtual void messages(std::string path, answer<std::vector<actor_message>> done) const = 0;

  // What changes something is told to the monitor, with who did it.
  virtual void send(std::string path, std::string message, std::vector<argument_value> arguments, std::string by,
                    answer<actor_facts> done) const = 0;
  virtual void kill(std::string path, std::string by, answer<nothing> done) const = 0;
};

} // namespace varve
