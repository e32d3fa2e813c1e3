#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/node.hpp"

namespace varve {

/// How the number of a fact is to be read. The numbers travel: append only.
enum class fact_unit : uint8_t { text = 0, count = 1, bytes = 2, nanoseconds = 3, flag = 4 };

/// One thing that an actor says of itself, or answers to a message: name = value.
struct actor_fact {
  /// Words with hyphens: "leases-held".
  std::string name;
  fact_unit unit = fact_unit::text;
  /// Of a text; empty otherwise.
  std::string text;
  /// Of all others; a flag is 0 or 1.
  uint64_t number = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_fact& x) {
  return f(caf::meta::type_name("varve::actor_fact"), x.name, x.unit, x.text, x.number);
}

using actor_facts = std::vector<actor_fact>;

inline actor_fact text_fact(std::string name, std::string value) {
  return {std::move(name), fact_unit::text, std::move(value), 0};
}
inline actor_fact count_fact(std::string name, uint64_t value) {
  return {std::move(name), fact_unit::count, {}, value};
}
inline actor_fact bytes_fact(std::string name, uint64_t value) {
  return {std::move(name), fact_unit::bytes, {}, value};
}
/// A negative time is none.
inline actor_fact time_fact(std::string name, caf::timespan value) {
  return {std::move(name), fact_unit::nanoseconds, {}, value.count() < 0 ? 0 : static_cast<uint64_t>(value.count())};
}
inline actor_fact flag_fact(std::string name, bool value) {
  return {std::move(name), fact_unit::flag, {}, value ? 1u : 0u};
}

/// What an actor answers to `report`.
struct actor_report {
  /// Messages that wait behind this one.
  uint64_t mailbox = 0;
  actor_facts facts;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_report& x) {
  return f(caf::meta::type_name("varve::actor_report"), x.mailbox, x.facts);
}

// -- what the console shows and says --------------------------------------------------------------------------------

/// How an actor was found. The numbers travel: append only.
enum class actor_condition : uint8_t {
  /// It answers.
  running = 0,
  /// Dead; its supervisor starts it again after a while.
  restarting = 1,
  /// It lives and did not answer in time: busy for long, or hung.
  silent = 2,
};

inline const char* to_string(actor_condition x) noexcept {
  constexpr const char* names[] = {"running", "restarting", "silent"};
  return static_cast<size_t>(x) < 3 ? names[static_cast<size_t>(x)] : "unknown";
}

/// One actor of the tree, as it is now.
struct actor_row {
  /// `path` begins with the node: "/node1/management/catalog"; the node itself is "/node1". Age 0: not known.
  actor_info info;
  actor_condition condition = actor_condition::running;
  /// Of one that runs.
  uint64_t mailbox = 0;
  /// Children that are not listed, because there are more of them than was asked for.
  uint64_t hidden = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_row& x) {
  return f(caf::meta::type_name("varve::actor_row"), x.info, x.condition, x.mailbox, x.hidden);
}

struct actor_inspection {
  actor_row row;
  actor_facts facts;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_inspection& x) {
  return f(caf::meta::type_name("varve::actor_inspection"), x.row, x.facts);
}

/// What an argument of a message is. The numbers travel: append only.
enum class argument_type : uint8_t {
  number = 0,
  /// Bytes: a number, maybe with a unit.
  size = 1,
  text = 2,
  /// A volume's name or number.
  volume = 3,
  tier = 4,
  flag = 5,
};

struct message_argument {
  std::string name;
  argument_type type = argument_type::text;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, message_argument& x) {
  return f(caf::meta::type_name("varve::message_argument"), x.name, x.type);
}

/// A message that an actor may be sent by people.
struct actor_message {
  std::string name;
  std::vector<message_argument> arguments;
  /// A sentence.
  std::string about;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_message& x) {
  return f(caf::meta::type_name("varve::actor_message"), x.name, x.arguments, x.about);
}

/// In the order of the message's arguments. Numbers and sizes are uint64_t, flags bool, all others text.
using argument_value = std::variant<uint64_t, std::string, bool>;

/// An argument on its way to another node: CAF sends no variants.
struct sent_argument {
  /// Of the three that argument_value holds.
  uint8_t which = 0;
  uint64_t number = 0;
  std::string text;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sent_argument& x) {
  return f(caf::meta::type_name("varve::sent_argument"), x.which, x.number, x.text);
}

inline sent_argument to_sent(const argument_value& x) {
  if (const auto* number = std::get_if<uint64_t>(&x))
    return {0, *number, {}};
  if (const auto* flag = std::get_if<bool>(&x))
    return {2, *flag ? 1u : 0u, {}};
  return {1, 0, std::get<std::string>(x)};
}

inline argument_value from_sent(const sent_argument& x) {
  return x.which == 0   ? argument_value{x.number}
         : x.which == 2 ? argument_value{x.number != 0}
                        : argument_value{x.text};
}

/// Something that a person sends to an actor, on its way to that actor's node.
struct console_message {
  /// As actor_row's.
  std::string path;
  std::string message;
  std::vector<sent_argument> arguments;
  /// Who sends it.
  std::string by;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, console_message& x) {
  return f(caf::meta::type_name("varve::console_message"), x.path, x.message, x.arguments, x.by);
}

} // namespace varve
