#include "actors/node_root.hpp"

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>

#include "actors/cluster/cluster_supervisor.hpp"
#include "actors/host/host_supervisor.hpp"
#include "actors/management/management_supervisor.hpp"
#include "actors/storage/storage_supervisor.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

node_root_self::behavior_type node_root(node_root_self::stateful_pointer<node_root_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

node_root_self::behavior_type node_root_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, "node");
  auto child = [this](const std::string& path, const char* type, auto function) {
    children_->start(
      {path, type,
       [this, function] { return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(function, context_)); },
       // Its children's children need theirs first.
       4 * context_->options.stop_grace});
  };
  const auto& roles = context_->options.roles;
  // The first to come and the last to go: what the others hold is given back through it.
  if (context_->link)
    child("cluster", cluster_supervisor_state::name, cluster_supervisor);
  if (roles.storage)
    child("storage", storage_supervisor_state::name, storage_supervisor);
  if (roles.manager)
    child("management", management_supervisor_state::name, management_supervisor);
  if (roles.host)
    child(path::host, host_supervisor_state::name, host_supervisor);
  return {
    [this](atom::list) { return context_->tree->list(context_->now()); },
    [this](atom::kill, const std::string& path) { return kill(path); },
    [this](atom::stop) { return stop(); },
    [this](atom::start, const std::string& path) { children_->on_start(path); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts node_root_state::facts() const {
  auto facts = children_->facts();
  facts.insert(facts.begin(),
               {text_fact("version", context_->options.version), text_fact("ring", context_->options.ring),
                count_fact("actors", context_->directory->count(""))});
  return facts;
}

caf::result<void> node_root_state::kill(const std::string& path) {
  auto actor = context_->directory->get<caf::actor>(path);
  if (!actor)
    return make_error(errc::not_found, "actor " + path);
  caf::anon_send_exit(actor, caf::exit_reason::kill);
  return caf::unit;
}

caf::typed_response_promise<void> node_root_state::stop() {
  auto promise = self_->make_response_promise<void>();
  children_->stop_all([this, promise]() mutable {
    deliver_done(promise);
    self_->quit(caf::exit_reason::user_shutdown);
  });
  return promise;
}

} // namespace varve
