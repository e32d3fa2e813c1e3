#include "actors/root_keeper.hpp"

#include "actors/node_root.hpp"
#include "actors/supervision/restart_policy.hpp"

namespace varve {

caf::behavior root_keeper(caf::stateful_actor<root_keeper_state>* self, context_ptr context,
                          std::shared_ptr<root_place> place, std::function<void()> give_up) {
  auto policy = std::make_shared<restart_policy>(context->options.restarts, context->options.seed);
  auto start = [self, context, place] {
    auto root = self->spawn<caf::monitored>(node_root, context);
    place->set(caf::actor_cast<node_root_actor>(root));
    context->directory->put(path::root, root);
    context->tree->started(path::root, node_root_state::name, context->now());
  };
  self->set_down_handler([=](caf::down_msg& x) {
    place->set({});
    context->directory->remove(path::root, x.source);
    if (!x.reason || x.reason == caf::exit_reason::normal || x.reason == caf::exit_reason::user_shutdown) {
      context->tree->removed(path::root);
      return self->quit();
    }
    context->tree->died(path::root, caf::to_string(x.reason));
    const auto delay = policy->next(context->now());
    context->publish("NODE_ROOT_DIED", caf::to_string(x.reason));
    if (!delay) {
      give_up();
      return self->quit();
    }
    self->delayed_send(self, *delay, atom::start_v);
  });
  start();
  return {[start](atom::start) { start(); }};
}

} // namespace varve
