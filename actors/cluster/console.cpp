#include "actors/cluster/console.hpp"

#include "runtime/caf/reporting.hpp"

namespace varve {

console_self::behavior_type console(console_self::stateful_pointer<console_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

template <class T, class Ask>
caf::result<T> console_state::pass(Ask ask) {
  using told = std::conditional_t<std::is_void_v<T>, nothing, T>;
  auto promise = self_->make_response_promise<T>();
  if (!context_->console) {
    promise.deliver(make_error(errc::unsupported, "node " + context_->options.name + " has no console"));
    return promise;
  }
  ask(*context_->console, returning<caf::error, told>(self_, [promise](const caf::error& e, const told& x) mutable {
    if (e)
      promise.deliver(e);
    else if constexpr (std::is_void_v<T>)
      deliver_done(promise);
    else
      promise.deliver(x);
  }));
  return promise;
}

console_self::behavior_type console_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  using rows = std::vector<actor_row>;
  return {
    [this](atom::list, const std::string& path, uint64_t children) {
      return pass<rows>([&](auto& desk, auto done) { desk.tree(path, children, std::move(done)); });
    },
    [this](atom::report, const std::string& path) {
      return pass<actor_inspection>([&](auto& desk, auto done) { desk.inspect(path, std::move(done)); });
    },
    [this](atom::get, const std::string& path) {
      return pass<std::vector<actor_message>>([&](auto& desk, auto done) { desk.messages(path, std::move(done)); });
    },
    [this](atom::send, const console_message& x) {
      return pass<actor_facts>([&](auto& desk, auto done) {
        std::vector<argument_value> arguments;
        for (auto& argument : x.arguments)
          arguments.push_back(from_sent(argument));
        desk.send(x.path, x.message, std::move(arguments), x.by, std::move(done));
      });
    },
    [this](atom::kill, const std::string& path, const std::string& by) {
      return pass<void>([&](auto& desk, auto done) { desk.kill(path, by, std::move(done)); });
    },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, {}); },
  };
}

} // namespace varve
