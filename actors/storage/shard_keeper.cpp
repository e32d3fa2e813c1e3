#include "actors/storage/shard_keeper.hpp"

#include <algorithm>

#include "runtime/caf/reporting.hpp"

namespace varve {

shard_keeper_self::behavior_type shard_keeper(shard_keeper_self::stateful_pointer<shard_keeper_state> self,
                                              context_ptr context, std::string tier, shard_id id, generation of) {
  return self->state.make_behavior(std::move(context), std::move(tier), id, of);
}

shard_keeper_self::behavior_type shard_keeper_state::make_behavior(context_ptr context, std::string tier, shard_id id,
                                                                   generation of) {
  context_ = std::move(context);
  tier_ = std::move(tier);
  id_ = id;
  of_ = of;
  return {
    [this](atom::fence, epoch to) { return fence(to); },
    [this](atom::stop) { return stop(); },
    [this](atom::remove) { return remove(); },
    [this](atom::verify) { return verify(); },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts shard_keeper_state::facts() const {
  return {count_fact("volume", id_.volume.value()),    count_fact("shard", id_.index.value()),
          count_fact("generation", of_.value()),       flag_fact("active", active_),
          bytes_fact("size", summary_.size),           bytes_fact("allocated", summary_.allocated_bytes),
          count_fact("epoch", summary_.fence.value()), count_fact("acts-waiting", acts_.size())};
}

caf::typed_response_promise<shard_summary_info> shard_keeper_state::fence(epoch to) {
  auto promise = self_->make_response_promise<shard_summary_info>();
  when_active([this, to, promise](errc status) mutable {
    if (status == errc::none && to.value() != 0 && to < summary_.fence)
      status = errc::stale_epoch;
    if (status != errc::none || to <= summary_.fence) {
      if (status != errc::none)
        promise.deliver(refusal(status));
      else
        promise.deliver(summary_);
      next();
      return;
    }
    context_->plane->raise_fence(tier_, id_, of_, to, returning<errc>(self_, [this, to, promise](errc status) mutable {
                                   if (status == errc::none) {
                                     summary_.fence = std::max(summary_.fence, to);
                                     promise.deliver(summary_);
                                   } else {
                                     active_ = false; // whatever it is: look again before the next
                                     promise.deliver(refusal(status));
                                   }
                                   next();
                                 }));
  });
  return promise;
}

caf::typed_response_promise<void> shard_keeper_state::stop() {
  auto promise = self_->make_response_promise<void>();
  queue([this, promise] { context_->plane->passivate_shard(tier_, id_, of_, ending(promise)); });
  return promise;
}

caf::typed_response_promise<void> shard_keeper_state::remove() {
  auto promise = self_->make_response_promise<void>();
  queue([this, promise] { context_->plane->remove_shard(tier_, id_, of_, ending(promise)); });
  return promise;
}

std::function<void(errc)> shard_keeper_state::ending(caf::typed_response_promise<void> promise) {
  return returning<errc>(self_, [this, promise](errc status) mutable {
    active_ = false;
    // Not there, or not active: there is nothing to keep.
    if (status == errc::none || status == errc::not_found) {
      deliver_done(promise);
      if (acts_.size() == 1) {
        self_->quit();
        return;
      }
    } else {
      promise.deliver(refusal(status));
    }
    next();
  });
}

caf::typed_response_promise<uint64_t> shard_keeper_state::verify() {
  auto promise = self_->make_response_promise<uint64_t>();
  when_active([this, promise](errc status) mutable {
    if (status != errc::none) {
      promise.deliver(refusal(status));
      next();
      return;
    }
    context_->plane->verify_shard(
      tier_, id_, of_, returning<errc, uint64_t>(self_, [this, promise](errc status, uint64_t bad_blocks) mutable {
        if (status == errc::none)
          promise.deliver(bad_blocks);
        else
          promise.deliver(refusal(status));
        next();
      }));
  });
  return promise;
}

void shard_keeper_state::when_active(std::function<void(errc)> then) {
  queue([this, then = std::move(then)] {
    if (active_) {
      then(errc::none);
      return;
    }
    context_->plane->activate_shard(
      tier_, id_, of_, returning<shard_summary>(self_, [this, then](shard_summary x) {
        if (x.status == errc::none) {
          active_ = true;
          summary_ = {x.header.size, x.allocated_bytes, x.header.fence, x.header.incomplete};
          // A sealed shard serves nothing: its home is elsewhere, or its migration will say so.
          if (x.header.sealed_by.value() != 0)
            x.status = errc::shard_moved;
        }
        then(x.status);
      }));
  });
}

void shard_keeper_state::queue(std::function<void()> act) {
  acts_.push_back(act);
  // Not the queued one: it may end within the call and take itself off the queue.
  if (acts_.size() == 1)
    act();
}

void shard_keeper_state::next() {
  acts_.pop_front();
  if (!acts_.empty()) {
    auto act = acts_.front();
    act();
  }
}

caf::error shard_keeper_state::refusal(errc code) const {
  return make_error(code, "shard " + std::to_string(id_.volume.value()) + "." + std::to_string(id_.index.value()) +
                            " generation " + std::to_string(of_.value()) + " on " + tier_);
}

} // namespace varve
