#include "actors/management/attachments.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// A patient detach waits for what the VM has parked; the host ends it earlier.
constexpr caf::timespan detach_patience = 11min;
/// Of a listing: a host that does not answer by then is left out.
constexpr caf::timespan list_patience = 1s;

} // namespace

attachments_self::behavior_type attachments(attachments_self::stateful_pointer<attachments_state> self,
                                            context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

attachments_self::behavior_type attachments_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  return {
    [this](atom::attach, volume_id volume, const std::string& host, bool shared) {
      return attach(volume, host, shared);
    },
    [this](atom::detach, volume_id volume, const std::string& host, bool force) { return detach(volume, host, force); },
    [this](atom::resize, volume_id volume, uint64_t size_bytes) { return resize(volume, size_bytes); },
    [this](atom::list) { return list(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts attachments_state::facts() const {
  return {count_fact("hosts", hosts().size()), count_fact("questions-waiting", questions_.size())};
}

// -- what others ask
// --------------------------------------------------------------------------------------------------------

attachments_state::attach_promise attachments_state::attach(volume_id volume, const std::string& name, bool shared) {
  auto promise = self_->make_response_promise<attachment>();
  // Several requests of the host's: for a number, the record, the port.
  ask<attachment>(
    name, 5 * context_->options.request_timeout, [promise](const attachment& x) mutable { promise.deliver(x); },
    [promise](const caf::error& e) mutable { promise.deliver(e); }, atom::attach_v, volume, shared);
  return promise;
}

attachments_state::done_promise attachments_state::detach(volume_id volume, const std::string& name, bool force) {
  auto promise = self_->make_response_promise<void>();
  auto refused = [promise](const caf::error& e) mutable { promise.deliver(e); };
  find(
    volume,
    [this, volume, name, force, promise](const volume_record& record) mutable {
      if (record.attachments.empty()) {
        promise.deliver(make_error(errc::volume_detached, record.spec.name));
        return;
      }
      if (name.empty() && record.attachments.size() > 1) {
        std::string all;
        for (const auto& x : record.attachments)
          all += (all.empty() ? "" : ", ") + x.host;
        promise.deliver(make_error(errc::invalid_argument,
                                   "volume " + record.spec.name + " is attached at " + all + ": say at which"));
        return;
      }
      const auto* at = name.empty() ? &record.attachments.front() : record.at(name);
      if (!at)
        promise.deliver(make_error(errc::volume_detached, record.spec.name + " at " + name));
      else
        detach_at(volume, *at, force, promise);
    },
    refused);
  return promise;
}

void attachments_state::detach_at(volume_id volume, const volume_attachment& at, bool force, done_promise promise) {
  auto refused = [this, volume, at, force, promise](const caf::error& e) mutable {
    const auto code = code_of(e);
    if (force && (code == errc::unavailable || code == errc::timed_out))
      give_up(volume, at, promise);
    else
      promise.deliver(e);
  };
  ask<void>(
    at.host, force ? 5 * context_->options.request_timeout : detach_patience,
    [promise]() mutable { deliver_done(promise); }, refused, atom::detach_v, volume, force);
}

void attachments_state::give_up(volume_id volume, const volume_attachment& at, done_promise promise) {
  auto refused = [promise](const caf::error& e) mutable { promise.deliver(e); };
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    refused(make_error(errc::unavailable, "the volume directory is starting"));
    return;
  }
  const auto timeout = context_->options.request_timeout;
  self_->request(volumes, timeout, atom::open_v, volume)
    .then(
      [this, timeout, at, promise, refused](const volume_actor& actor) {
        self_->request(actor, timeout, atom::detach_v, at.holder)
          .then(
            [this, at, promise](const volume_record& x) mutable {
              context_->publish("ATTACHMENT_GIVEN_UP", "volume " + x.spec.name + " counts as detached at " + at.host +
                                                         ", which does not answer");
              deliver_done(promise);
            },
            refused);
      },
      refused);
}

attachments_state::done_promise attachments_state::resize(volume_id volume, uint64_t size_bytes) {
  auto promise = self_->make_response_promise<void>();
  find(
    volume,
    [this, volume, size_bytes, promise](const volume_record& record) mutable {
      struct gathering {
        size_t open;
        caf::error refusal;
      };
      auto all = std::make_shared<gathering>(gathering{record.attachments.size(), {}});
      if (all->open == 0) {
        promise.deliver(make_error(errc::volume_detached, record.spec.name));
        return;
      }
      auto answered = [all, promise]() mutable {
        if (--all->open > 0)
          return;
        if (all->refusal)
          promise.deliver(all->refusal);
        else
          deliver_done(promise);
      };
      for (const auto& at : record.attachments)
        ask<void>(
          at.host, context_->options.request_timeout, answered,
          [all, answered](const caf::error& e) mutable {
            if (!all->refusal)
              all->refusal = e;
            answered();
          },
          atom::resize_v, volume, size_bytes);
    },
    [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

attachments_state::list_promise attachments_state::list() {
  struct gathering {
    size_t open = 1;
    std::map<std::string, std::vector<attachment>> of; // by host: in the same order each time
  };
  auto promise = self_->make_response_promise<std::vector<attachment>>();
  auto all = std::make_shared<gathering>();
  auto answered = [all, promise]() mutable {
    if (--all->open > 0)
      return;
    std::vector<attachment> result;
    for (auto& [name, part] : all->of)
      result.insert(result.end(), part.begin(), part.end());
    promise.deliver(std::move(result));
  };
  for (const auto& name : hosts()) {
    ++all->open;
    ask<std::vector<attachment>>(
      name, list_patience,
      [all, name, answered](const std::vector<attachment>& x) mutable {
        all->of[name] = x;
        answered();
      },
      [answered](const caf::error&) mutable { answered(); }, atom::list_v);
  }
  answered();
  return promise;
}

// -- hosts
// ------------------------------------------------------------------------------------------------------------------

std::vector<std::string> attachments_state::hosts() const {
  const auto& own = context_->options;
  std::vector<std::string> result;
  for (const auto& x : own.cluster.nodes)
    if (x.roles.host)
      result.push_back(x.name);
  if (own.cluster.nodes.empty() && own.roles.host)
    result.push_back(own.name);
  return result;
}

host_supervisor_actor attachments_state::host(const std::string& name) const {
  return context_->directory->get<host_supervisor_actor>(
    path::host_of(name == context_->options.name ? std::string{} : name));
}

void attachments_state::find(volume_id volume, std::function<void(const volume_record&)> then, refusal refused) {
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    refused(make_error(errc::unavailable, "the volume directory is starting"));
    return;
  }
  self_->request(volumes, context_->options.request_timeout, atom::get_v, std::to_string(volume.value()))
    .then(
      [volume, then, refused](const volume_record& x) {
        // A volume may be named "7": then the answer is another's.
        if (x.id == volume)
          then(x);
        else
          refused(make_error(errc::not_found, "volume " + std::to_string(volume.value())));
      },
      refused);
}

template <class Answer, class F, class... Ts>
void attachments_state::ask(const std::string& name, caf::timespan patience, F done, refusal refused, Ts... what) {
  const auto all = hosts();
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    std::string known;
    for (const auto& x : all)
      known += (known.empty() ? "" : ", ") + x;
    refused(make_error(errc::not_found, "host '" + name + "'; there is " + (known.empty() ? "none" : known)));
    return;
  }
  auto to = host(name);
  if (!to) {
    refused(make_error(errc::unavailable, "host " + name + " does not answer"));
    return;
  }
  const auto number = ++asked_;
  if (watched_.insert(to.address()).second)
    self_->monitor(to);
  questions_[number] = {to.address(), name, refused};
  auto waited_for = [this, number] { return questions_.erase(number) > 0; };
  auto failed = [waited_for, refused](const caf::error& e) {
    if (waited_for())
      refused(e);
  };
  auto asked = self_->request(to, patience, std::move(what)...);
  if constexpr (std::is_void_v<Answer>)
    asked.then(
      [waited_for, done]() mutable {
        if (waited_for())
          done();
      },
      failed);
  else
    asked.then(
      [waited_for, done](const Answer& x) mutable {
        if (waited_for())
          done(x);
      },
      failed);
}

void attachments_state::on_down(const caf::down_msg& x) {
  watched_.erase(x.source);
  std::vector<question> lost;
  for (auto at = questions_.begin(); at != questions_.end();) {
    if (!(at->second.host == x.source)) {
      ++at;
      continue;
    }
    lost.push_back(std::move(at->second));
    at = questions_.erase(at);
  }
  for (auto& question : lost)
    question.refused(make_error(errc::unavailable, "host " + question.name + " is lost"));
}

} // namespace varve
