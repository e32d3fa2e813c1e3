#pragma once

#include <functional>
#include <tuple>
#include <utility>

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/local_actor.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/message.hpp>
#include <caf/response_promise.hpp>
#include <caf/typed_response_promise.hpp>
#include <caf/unit.hpp>

namespace varve {

/// What the data plane (or another interface of callbacks) answered, on its way to the actor that asked. The actor adds
/// `caf::reacts_to<returned>` to what it says to itself and calls `run`. Never leaves the process.
struct returned {
  std::function<void()> run;
};

} // namespace varve

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(varve::returned)

namespace varve {

/// A callback that any thread may call, and that carries its arguments into `self`, where `f` is run; if `self` has
/// ended by then, nothing happens. So `f` may capture `this` of the state.
template <class... Ts, class F>
std::function<void(Ts...)> returning(caf::local_actor* self, F f) {
  caf::weak_actor_ptr to{self->ctrl()};
  return [to = std::move(to), f = std::move(f)](Ts... xs) {
    if (auto actor = to.lock())
      actor->enqueue(nullptr, caf::make_message_id(),
                     caf::make_message(returned{
                       [f, values = std::tuple<Ts...>(std::move(xs)...)]() mutable { std::apply(f, values); }}),
                     nullptr);
  };
}

/// Answers a request whose answer has no content.
inline void deliver_done(caf::typed_response_promise<void>& promise) {
  static_cast<caf::response_promise&>(promise).deliver(caf::unit);
}

} // namespace varve
