#include "runtime/rpc/actor_console.hpp"

#include <set>

#include <caf/sec.hpp>

#include "runtime/rpc/actor_messages.hpp"

namespace varve {

namespace {

constexpr auto volume_kind = "varve.volume";
constexpr auto lease_kind = "varve.lease";

// Why there was no answer says how the actor is.
actor_condition condition_of(const caf::error& e) {
  if (e == caf::sec::request_timeout)
    return actor_condition::silent;
  // It answers, but not this.
  if (e == caf::sec::unexpected_message)
    return actor_condition::running;
  return actor_condition::restarting; // died meanwhile
}

std::string as_text(const argument_value& x) {
  if (const auto* number = std::get_if<uint64_t>(&x))
    return std::to_string(*number);
  if (const auto* flag = std::get_if<bool>(&x))
    return *flag ? "true" : "false";
  return std::get<std::string>(x);
}

// Asks the actor of a row, if it lives; `then` is called in any case, with the row complete.
void ask_row(bridge& on, actor_row& row, caf::timespan patience, std::function<void(const actor_facts&)> then) {
  const auto place = place_of(row.info.path);
  const auto actor = on.directory().get<inspected_actor>(place->local);
  if (!row.info.alive || !actor) {
    row.condition = actor_condition::restarting;
    then({});
    return;
  }
  on.probe(
    actor, patience,
    [&row, then](const actor_report& x) {
      row.mailbox = x.mailbox;
      then(x.facts);
    },
    [&row, then](const caf::error& e) {
      row.condition = condition_of(e);
      then({});
    },
    atom::report_v);
}

} // namespace

template <class T, class Body>
void actor_console::run(answer<T> done, Body body) const {
  const auto& parts = to_.outside();
  run_request<T>(*parts.system, parts.directory, to_.options().timeout, parts.why_not_managing, std::move(done),
                 std::move(body));
}

void actor_console::publish(const char* code, std::string text) const {
  if (const auto& publish = to_.outside().publish)
    publish(code, std::move(text));
}

std::vector<actor_info> actor_console::known() const {
  const auto& parts = to_.outside();
  std::vector<actor_info> all;
  if (parts.tree)
    all = parts.tree->list(parts.now ? parts.now() : boot_time{0});
  std::set<std::string> in_tree;
  for (const auto& x : all)
    in_tree.insert(x.path);
  // Leases are no supervisor's children.
  for (const auto& path : parts.directory->list("")) {
    // What stands there for another node is listed where it lives.
    const auto actor = parts.directory->get<caf::strong_actor_ptr>(path);
    if (in_tree.contains(path) || (actor && actor->node() != parts.system->node()))
      continue;
    actor_info x;
    x.path = path;
    x.type = path.starts_with(path::leases + '/') ? lease_kind : "";
    all.push_back(std::move(x));
  }
  return all;
}

caf::expected<std::vector<actor_row>> actor_console::rows(const std::string& path, uint64_t children) const {
  auto place = place_of(path);
  if (!place)
    return place.error();
  const auto& node = to_.options().node;
  if (!place->node.empty() && place->node != node)
    return make_error(errc::not_found, "node " + place->node + "; there is: " + node);
  auto rows = list_actors(known(), *place, node, children, rows_max);
  if (rows.empty() || (!place->node.empty() && rows[0].info.path != path_of(node, place->local)))
    return make_error(errc::not_found, "actor " + path);
  return rows;
}

caf::expected<actor_row> actor_console::row(const std::string& path) const {
  auto found = rows(path, 0);
  if (!found)
    return found.error();
  return found->front();
}

void actor_console::tree(std::string path, uint64_t children, answer<std::vector<actor_row>> done) const {
  auto found = rows(path, children == 0 ? children_max : std::min(children, children_max));
  if (!found)
    return done(found.error(), {});
  run<std::vector<actor_row>>(std::move(done), [rows = std::move(*found), patience = to_.options().patience](auto& r) {
    auto all = std::make_shared<std::vector<actor_row>>(rows);
    auto left = std::make_shared<size_t>(all->size());
    // Answers come as messages of their own: none of them before all are asked.
    for (auto& row : *all)
      ask_row(r, row, patience, [&r, all, left](const actor_facts&) {
        if (--*left == 0)
          r.finish(std::move(*all));
      });
  });
}

void actor_console::inspect(std::string path, answer<actor_inspection> done) const {
  auto found = row(path);
  if (!found)
    return done(found.error(), {});
  run<actor_inspection>(std::move(done), [this, found = std::move(*found)](auto& r) {
    auto result = std::make_shared<actor_inspection>();
    result->row = found;
    ask_row(r, result->row, to_.options().patience, [this, &r, result](const actor_facts& facts) {
      result->facts = facts;
      const auto& plane = to_.outside().plane;
      if (result->row.info.type != volume_kind || facts.empty() || !plane)
        return r.finish(std::move(*result));
      // Connections are the data path's: the volume's actor does not see them. It is not waited for for long either.
      r.later(to_.options().patience, [&r, result] { r.finish(std::move(*result)); });
      using counters = std::map<volume_id, volume_counters>;
      r.template wait_for<counters>([plane](auto then) { plane->port_counters(std::move(then)); },
                                    [&r, result](const counters& all) {
                                      const auto& at = result->row.info.path;
                                      const auto id = std::strtoull(at.c_str() + at.rfind('/') + 1, nullptr, 10);
                                      auto known = all.find(volume_id{id});
                                      const auto clients = known == all.end() ? 0 : known->second.connections;
                                      result->facts.push_back(count_fact("clients", clients));
                                      r.finish(std::move(*result));
                                    });
    });
  });
}

void actor_console::messages(std::string path, answer<std::vector<actor_message>> done) const {
  auto found = row(path);
  if (!found)
    return done(found.error(), {});
  done({}, messages_of(found->info.type));
}

void actor_console::send(std::string path, std::string message, std::vector<argument_value> arguments, std::string by,
                         answer<actor_facts> done) const {
  auto found = row(path);
  if (!found)
    return done(found.error(), {});
  auto text = found->info.path + ": " + message;
  for (const auto& x : arguments)
    text += ' ' + as_text(x);
  publish("CONSOLE_SEND", text + ", by " + by);
  send_message(to_, found->info.type, place_of(found->info.path)->local, message, arguments, std::move(done));
}

void actor_console::kill(std::string path, std::string by, answer<nothing> done) const {
  auto found = row(path);
  if (!found)
    return done(found.error(), {});
  publish("CONSOLE_KILL", found->info.path + ", by " + by);
  run<nothing>(std::move(done), [this, local = place_of(found->info.path)->local](auto& r) {
    const auto root = to_.outside().root();
    if (!root)
      return r.refuse(make_error(errc::unavailable, "the root of the actors restarts"));
    r.ask_actor(
      root, [&r] { r.finish({}); }, atom::kill_v, local);
  });
}

} // namespace varve
