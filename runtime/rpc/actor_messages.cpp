#include "runtime/rpc/actor_messages.hpp"

#include <cstdlib>
#include <functional>

namespace varve {

namespace {

/// What a message is carried out with.
struct delivery {
  const gateway& by;
  /// The actor's place in the directory.
  const std::string& local;
  const std::vector<argument_value>& arguments;
  answer<actor_facts> done;

  uint64_t number(size_t i) const { return std::get<uint64_t>(arguments[i]); }
  const std::string& text(size_t i) const { return std::get<std::string>(arguments[i]); }
  bool flag(size_t i) const { return std::get<bool>(arguments[i]); }
  /// The last name of the actor's path: the number of a volume or of a migration.
  std::string name() const { return local.substr(local.rfind('/') + 1); }

  /// Passes an answer on, as facts.
  template <class T, class F>
  answer<T> as(F facts) const {
    return [done = done, facts](caf::error e, T x) {
      auto result = e ? actor_facts{} : facts(x);
      done(std::move(e), std::move(result));
    };
  }
  answer<nothing> as_done() const {
    return as<nothing>([](const nothing&) { return actor_facts{}; });
  }
};

actor_facts facts_of(const migration_progress& x) {
  return {count_fact("migration", x.record.id.value()),
          text_fact("state", to_string(x.record.state)),
          flag_fact("paused", x.paused),
          bytes_fact("bytes-done", x.bytes_done),
          bytes_fact("bytes-total", x.bytes_total),
          text_fact("from", x.record.from_tier),
          text_fact("to", x.record.to_tier)};
}

actor_facts facts_of(const volume_info& x) {
  return {count_fact("volume", x.record.id.value()), text_fact("name", x.record.spec.name),
          bytes_fact("size", x.record.spec.size_bytes)};
}

using move_verb = void (gateway::*)(migration_id, answer<migration_progress>) const;

// To the supervisor, which is told the migration's number, or to the migration itself.
std::function<void(const delivery&)> to_migration(move_verb verb, bool by_path) {
  return [verb, by_path](const delivery& x) {
    const auto id = by_path ? std::strtoull(x.name().c_str(), nullptr, 10) : x.number(0);
    (x.by.*verb)(migration_id{id}, x.as<migration_progress>([](const migration_progress& p) { return facts_of(p); }));
  };
}

// A tier verifies what lives on it.
void verify(const delivery& x) {
  const auto tier = x.name();
  const auto volume = x.text(0);
  const auto index = x.number(1);
  auto verified = x.as<uint64_t>([](uint64_t bad) { return actor_facts{count_fact("blocks-bad", bad)}; });
  x.by.shard_show(volume, index, [&by = x.by, tier, volume, index, verified](caf::error e, const shard_info& shard) {
    if (!e && shard.home.tier != tier)
      e = make_error(errc::shard_moved,
                     "shard " + std::to_string(index) + " of " + volume + " lives on " + shard.home.tier);
    if (e)
      verified(std::move(e), 0);
    else
      by.shard_verify(volume, index, verified);
  });
}

void start_migrations(const delivery& x) {
  x.by.shard_move(x.text(0), x.number(1), x.number(2), x.text(3),
                  x.as<std::vector<migration_id>>([](const std::vector<migration_id>& ids) {
                    actor_facts facts;
                    for (auto id : ids)
                      facts.push_back(count_fact("migration", id.value()));
                    return facts;
                  }));
}

struct entry {
  const char* kind;
  actor_message message;
  std::function<void(const delivery&)> deliver;
};

const std::vector<entry>& table() {
  using type = argument_type;
  const message_argument id{"MIGRATION", type::number}, volume{"VOLUME", type::volume}, shard{"SHARD", type::number};
  constexpr auto cancelling = "Aborts the move: the shard stays where it was";
  constexpr auto pausing = "Stops copying for now";
  constexpr auto resuming = "Goes on with a paused move";
  static const std::vector<entry> all{
    {"varve.migration-supervisor",
     {"start", {volume, shard, {"COUNT", type::number}, {"TIER", type::tier}}, "Moves a range of shards to a tier"},
     start_migrations},
    {"varve.migration-supervisor", {"cancel", {id}, cancelling}, to_migration(&gateway::migration_cancel, false)},
    {"varve.migration-supervisor", {"pause", {id}, pausing}, to_migration(&gateway::migration_pause, false)},
    {"varve.migration-supervisor", {"resume", {id}, resuming}, to_migration(&gateway::migration_resume, false)},
    {"varve.migration", {"cancel", {}, cancelling}, to_migration(&gateway::migration_cancel, true)},
    {"varve.migration", {"pause", {}, pausing}, to_migration(&gateway::migration_pause, true)},
    {"varve.migration", {"resume", {}, resuming}, to_migration(&gateway::migration_resume, true)},
    {"varve.tier",
     {"verify", {volume, shard}, "Reads a shard that lives here as a whole and compares every block with its checksum"},
     verify},
    {"varve.lease-manager",
     {"break", {volume, shard}, "Takes a shard's leases away and fences their holders; those that live ask again"},
     [](const delivery& x) { x.by.lease_break(x.text(0), x.number(1), x.as_done()); }},
    {"varve.volume",
     {"resize", {{"SIZE", type::size}}, "Larger, also while attached; smaller only where nothing was written"},
     [](const delivery& x) {
       x.by.volume_resize(x.name(), x.number(0), x.as<volume_info>([](const volume_info& v) { return facts_of(v); }));
     }},
    {"varve.volume-directory",
     {"create", {{"NAME", type::text}, {"SIZE", type::size}}, "Makes a volume; no space is taken until it is written"},
     [](const delivery& x) {
       volume_spec spec;
       spec.name = x.text(0);
       spec.size_bytes = x.number(1);
       x.by.volume_create(spec, x.as<volume_info>([](const volume_info& v) { return facts_of(v); }));
     }},
    {"varve.host-supervisor",
     {"attach", {volume}, "Serves a volume to a VM; attached already: says where"},
     [](const delivery& x) {
       x.by.volume_attach(x.text(0), x.by.options().node, false,
                          x.as<attachment>([](const attachment& a) { return actor_facts{text_fact("uri", a.uri)}; }));
     }},
    {"varve.host-supervisor",
     {"detach", {volume, {"FORCE", type::flag}}, "Waits for requests under way; by force, those that wait fail"},
     [](const delivery& x) { x.by.volume_detach(x.text(0), x.flag(1), x.by.options().node, x.as_done()); }},
    {"varve.vm-agent",
     {"detach", {{"FORCE", type::flag}}, "Waits for requests under way; by force, those that wait fail"},
     [](const delivery& x) { x.by.volume_detach(x.name(), x.flag(0), x.by.options().node, x.as_done()); }},
  };
  return all;
}

const char* name_of(argument_type x) {
  constexpr const char* names[] = {"a number", "a size in bytes", "text", "a volume", "a tier", "true or false"};
  return static_cast<size_t>(x) < 6 ? names[static_cast<size_t>(x)] : "something newer";
}

bool fits(argument_type type, const argument_value& x) {
  switch (type) {
  case argument_type::number:
  case argument_type::size: return std::holds_alternative<uint64_t>(x);
  case argument_type::flag: return std::holds_alternative<bool>(x);
  case argument_type::text:
  case argument_type::volume:
  case argument_type::tier: return std::holds_alternative<std::string>(x) && !std::get<std::string>(x).empty();
  }
  return false;
}

} // namespace

std::vector<actor_message> messages_of(const std::string& kind) {
  std::vector<actor_message> result;
  for (const auto& x : table())
    if (x.kind == kind)
      result.push_back(x.message);
  return result;
}

caf::error check_arguments(const actor_message& to, const std::vector<argument_value>& arguments) {
  if (arguments.size() != to.arguments.size())
    return make_error(errc::invalid_argument, "message \"" + to.name + "\" takes " +
                                                std::to_string(to.arguments.size()) + " arguments, not " +
                                                std::to_string(arguments.size()));
  for (size_t i = 0; i < arguments.size(); ++i)
    if (!fits(to.arguments[i].type, arguments[i]))
      return make_error(errc::invalid_argument, "argument " + std::to_string(i + 1) + " of \"" + to.name + "\" (" +
                                                  to.arguments[i].name + ") must be " + name_of(to.arguments[i].type));
  return {};
}

void send_message(const gateway& by, const std::string& kind, const std::string& local, const std::string& message,
                  const std::vector<argument_value>& arguments, answer<actor_facts> done) {
  for (const auto& x : table()) {
    if (x.kind != kind || x.message.name != message)
      continue;
    if (auto e = check_arguments(x.message, arguments))
      done(std::move(e), {});
    else
      x.deliver({by, local, arguments, std::move(done)});
    return;
  }
  std::string there;
  for (const auto& x : messages_of(kind))
    there += (there.empty() ? "; there are: " : ", ") + x.name;
  done(make_error(errc::not_found,
                  "message \"" + message + "\" for a " + kind + (there.empty() ? "; it can be sent nothing" : there)),
       {});
}

} // namespace varve
