#include <algorithm>
#include <utility>

#include "actors/management/lease_manager.hpp"
#include "messages/errors.hpp"

/// How the lease manager carries out one acquire: the range is divided into pieces (an existing shard, a shard to be
/// made, a run of absent ones), and each goes its way by itself.
namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr caf::timespan retry_after = 100ms;
/// Pieces of one acquire; what is beyond is asked for again.
constexpr size_t pieces_max = 256;
/// Shards that one acquire makes.
constexpr uint64_t creations_max = 64;
constexpr unsigned attempts_max = 8;

} // namespace

lease_manager_state::piece* lease_manager_state::find_piece(uint64_t id, size_t i, uint64_t step) {
  auto at = acquisitions_.find(id);
  if (at == acquisitions_.end() || i >= at->second.pieces.size())
    return nullptr;
  auto& x = at->second.pieces[i];
  return x.step == step && x.at == piece::state::working ? &x : nullptr;
}

void lease_manager_state::begin(uint64_t id) {
  if (!ready()) {
    self_->delayed_send(self_, retry_after, atom::resume_v, id);
    return;
  }
  const auto volume = acquisitions_.at(id).request.first.volume;
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    self_->delayed_send(self_, retry_after, atom::resume_v, id);
    return;
  }
  auto asked = self_->request(volumes, caf::infinite, atom::get_v, std::to_string(volume.value()));
  const auto due = expect(asked.id());
  asked.then(
    [this, id, volume, due](const volume_record& record) {
      due_.met(due);
      auto at = acquisitions_.find(id);
      if (at == acquisitions_.end())
        return;
      auto& x = at->second;
      // A volume may be named "7": then the answer is another's.
      if (record.id != volume) {
        finish(id, make_error(errc::not_found, "volume " + std::to_string(volume.value())));
        return;
      }
      attached_at(record);
      const auto& leases = context_->options.leases;
      x.shard_size = record.spec.shard_size;
      x.term = leases.term;
      if (record.spec.sensitive == sensitivity::high) {
        x.term = leases.term_sensitive;
        x.limit = term_limit::sensitive;
      }
      if (x.request.term.count() > 0 && x.request.term < x.term) {
        x.term = x.request.term;
        x.limit = term_limit::none;
      }
      // Beside another attachment a holder is not alone: the other may read a run of shards that this one would make,
      // and storage knows nothing of runs.
      const bool alone = record.attachments.size() == 1 || x.request.mode == lease_mode::read;
      locate(id, alone && record.of(x.request.holder) != nullptr);
    },
    [this, id, due](const caf::error& e) {
      due_.met(due);
      if (acquisitions_.count(id) == 0)
        return;
      if (code_of(e) == errc::not_found)
        finish(id, e);
      else
        self_->delayed_send(self_, retry_after, atom::resume_v, id);
    });
}

void lease_manager_state::locate(uint64_t id, bool attached_holder) {
  auto& x = acquisitions_.at(id);
  if (!attached_holder && x.request.mode != lease_mode::migration && context_->now() < unknown_until_) {
    // Somebody may hold what storage cannot know of; it is over with one term.
    self_->delayed_send(self_, retry_after, atom::resume_v, id);
    return;
  }
  auto volume = context_->directory->get<volume_actor>(path::volume(x.request.first.volume.value()));
  if (!volume) {
    self_->delayed_send(self_, retry_after, atom::resume_v, id);
    return;
  }
  auto asked = self_->request(volume, caf::infinite, atom::locate_v, x.request.first.index, x.request.count);
  const auto due = expect(asked.id());
  asked.then(
    [this, id, due](const shard_map_part& part) {
      due_.met(due);
      if (acquisitions_.count(id))
        divide(id, part);
    },
    [this, id, due](const caf::error& e) {
      due_.met(due);
      if (acquisitions_.count(id) == 0)
        return;
      if (code_of(e) == errc::unavailable || code_of(e) == errc::timed_out)
        self_->delayed_send(self_, retry_after, atom::resume_v, id);
      else
        finish(id, e);
    });
}

void lease_manager_state::divide(uint64_t id, const shard_map_part& part) {
  auto& x = acquisitions_.at(id);
  x.pieces.clear();
  const auto volume = x.request.first.volume;
  const auto asked_end =
    x.request.first.index.value() + std::min(x.request.count, UINT64_MAX - x.request.first.index.value());
  uint64_t created = 0;
  // What lies between two homes, up to `end`.
  auto absent = [&](uint64_t begin, uint64_t end) {
    if (begin >= end || x.request.mode == lease_mode::migration)
      return;
    piece p;
    p.home.id = {volume, shard_index{begin}};
    if (x.request.mode == lease_mode::read) {
      p.count = end - begin;
      x.pieces.push_back(p);
      return;
    }
    for (auto i = begin; i < std::min(end, asked_end) && created < creations_max && x.pieces.size() < pieces_max;
         ++i, ++created) {
      p.home.id.index = shard_index{i};
      x.pieces.push_back(p);
    }
  };
  auto next = part.begin.value();
  for (const auto& home : part.homes) {
    if (x.pieces.size() >= pieces_max)
      break;
    absent(next, home.id.index.value());
    piece p;
    p.home = home;
    x.pieces.push_back(p);
    next = home.id.index.value() + 1;
  }
  // A run reaches beyond what was asked, but begins within.
  if (x.pieces.size() < pieces_max && next < asked_end)
    absent(next, part.end.value());
  if (x.held_only)
    std::erase_if(x.pieces, [&](const piece& p) {
      return !p.home.exists() || table_.of_holder(x.request.holder, p.home.id, 1).empty();
    });
  if (x.pieces.empty()) {
    finish(id, make_error(errc::not_found, "no shard of the range exists"));
    return;
  }
  for (size_t i = 0; i < x.pieces.size(); ++i)
    advance(id, i);
  settle(id);
}

void lease_manager_state::advance(uint64_t id, size_t i) {
  auto& x = acquisitions_.at(id);
  auto& p = x.pieces[i];
  p.at = piece::state::working;
  p.step = ++steps_;
  if (!p.home.exists() && x.request.mode == lease_mode::write)
    create(id, i);
  else
    claim(id, i);
}

void lease_manager_state::create(uint64_t id, size_t i) {
  auto& p = acquisitions_.at(id).pieces[i];
  const auto step = p.step;
  auto volume = context_->directory->get<volume_actor>(path::volume(p.home.id.volume.value()));
  if (!volume) {
    fail(id, i, errc::unavailable, path::volume(p.home.id.volume.value()));
    return;
  }
  self_->request(volume, context_->options.request_timeout, atom::create_v, p.home.id.index)
    .then(
      [this, id, i, step](const shard_home& home) {
        if (auto* p = find_piece(id, i, step)) {
          p->home = home;
          claim(id, i);
          settle(id);
        }
      },
      [this, id, i, step](const caf::error& e) {
        if (find_piece(id, i, step)) {
          fail(id, i, code_of(e), context_of(e));
          settle(id);
        }
      });
}

void lease_manager_state::claim(uint64_t id, size_t i) {
  auto& x = acquisitions_.at(id);
  auto& p = x.pieces[i];
  if (p.home.exists() && inventory_open_.count(p.home.tier)) {
    fail(id, i, errc::unavailable, "tier " + p.home.tier + " has not said what is outstanding");
    return;
  }
  lease_table::claim claim;
  if (p.home.exists())
    claim = table_.ask(x.request.holder, p.home, x.request.mode, is_doubtful(p.home.tier));
  else
    claim = table_.ask_run(x.request.holder, p.home.id, p.count,
                           context_->now() + x.term + context_->options.leases.drift_bound, x.term);
  if (!claim.conflicts.empty()) {
    p.at = piece::state::waiting;
    if (p.home.exists() && x.request.mode != lease_mode::migration)
      table_.contend(p.home.id, context_->now() + context_->options.leases.term);
    // A migration gives way to nobody and needs nobody to: another one's is waited for, not broken. So is what the
    // holder itself is giving up.
    for (auto other : claim.conflicts)
      if (const auto* row = table_.find(other);
          row->mode != lease_mode::migration && !row->revoking && row->holder != x.request.holder) {
        if (x.request.mode == lease_mode::read && row->mode == lease_mode::write && row->granted)
          lower(other);
        else
          revoke(other);
      }
    return;
  }
  p.lease = claim.id;
  if (p.home.exists()) {
    fence(id, i);
    return;
  }
  p.at = piece::state::granted;
  if (living_->actors.count(claim.id) == 0)
    note(lease_change::granted, table_.grant(claim.id));
  begin_lease(claim.id);
}

bool lease_manager_state::is_doubtful(const std::string& tier) const {
  return context_->now() < unknown_until_ && doubtful_.count(tier) > 0;
}

void lease_manager_state::fence(uint64_t id, size_t i) {
  auto& x = acquisitions_.at(id);
  auto& p = x.pieces[i];
  const auto step = p.step;
  auto grant = table_.grant(p.lease);
  grant.home = p.home;
  grant.mode = x.request.mode == lease_mode::read ? grant.mode : x.request.mode;
  grant.term = x.term;
  grant.limit = x.limit;
  if (table_.contended(p.home.id, context_->now()) && context_->options.leases.term_sensitive < x.term) {
    grant.term = context_->options.leases.term_sensitive;
    grant.limit = term_limit::contended;
  }
  auto tier = context_->directory->get<tier_actor>(path::tier(p.home.tier));
  if (!tier) {
    fence_failed(id, i, make_error(errc::unavailable, path::tier(p.home.tier)));
    return;
  }
  const auto lease = p.lease;
  auto asked = self_->request(tier, caf::infinite, atom::fence_v, std::move(grant));
  const auto due = expect(asked.id());
  asked.then(
    [this, id, i, step, due](const lease_grant& agreed) {
      due_.met(due);
      if (find_piece(id, i, step)) {
        fenced(id, i, agreed);
        settle(id);
      }
    },
    [this, id, i, step, lease, due](const caf::error& e) {
      due_.met(due);
      if (find_piece(id, i, step)) {
        fence_failed(id, i, e);
        settle(id);
      }
    });
}

void lease_manager_state::fenced(uint64_t id, size_t i, const lease_grant& agreed) {
  auto& x = acquisitions_.at(id);
  auto& p = x.pieces[i];
  const auto* row = table_.find(p.lease);
  if (!row || row->revoking || (row->lowering && agreed.mode == lease_mode::write) || row->generation != p.home.of ||
      row->fence != agreed.fence || (agreed.mode == lease_mode::write && row->mode != lease_mode::write)) {
    // Ended, moved, raised or given up while storage was asked.
    relocate(id, i);
    return;
  }
  const auto term = std::min(agreed.term, x.term);
  const bool is_new = !row->granted;
  const bool is_changed = row->agreed != agreed.mode || row->limit != agreed.limit;
  table_.agree(p.lease, {context_->now() + term + context_->options.leases.drift_bound, term, x.term, agreed.limit},
               agreed.mode);
  if (is_new || is_changed)
    note(is_new ? lease_change::granted : lease_change::changed, table_.grant(p.lease));
  begin_lease(p.lease);
  p.at = piece::state::granted;
  if (is_new || is_changed)
    // Whoever found it half made can have it revoked, or lowered, now.
    wake_later();
}

void lease_manager_state::fence_failed(uint64_t id, size_t i, const caf::error& e) {
  auto& p = acquisitions_.at(id).pieces[i];
  switch (code_of(e)) {
  case errc::stale_epoch:
    if (++p.attempts < attempts_max && table_.find(p.lease)) {
      table_.raise(p.lease);
      p.step = ++steps_;
      fence(id, i);
      return;
    }
    break;
  case errc::deposed:
    // Whatever it has granted counts no more.
    self_->quit(e);
    break;
  case errc::shard_moved:
  case errc::not_found:
    table_.give_up(p.lease);
    p.missing = code_of(e) == errc::not_found;
    relocate(id, i);
    return;
  default: break;
  }
  fail(id, i, code_of(e), context_of(e));
  // Not at once: an acquisition that waits for another shard of its range would find this one as it is, fail and wake
  // itself, without end.
  wake_soon();
}

void lease_manager_state::relocate(uint64_t id, size_t i) {
  auto& p = acquisitions_.at(id).pieces[i];
  p.at = piece::state::working;
  const auto step = p.step = ++steps_;
  const auto before = p.home.of;
  auto volume = context_->directory->get<volume_actor>(path::volume(p.home.id.volume.value()));
  if (!volume || ++p.attempts >= attempts_max) {
    fail(id, i, errc::unavailable, "the shard's home");
    return;
  }
  self_->request(volume, context_->options.request_timeout, atom::locate_v, p.home.id.index, uint64_t{1})
    .then(
      [this, id, i, step, before](const shard_map_part& part) {
        auto* p = find_piece(id, i, step);
        if (!p)
          return;
        if (part.homes.empty())
          fail(id, i, errc::not_found, "the shard is gone");
        else {
          p->home = part.homes.front();
          // Asked of the catalog after storage did not have it, so it has not moved: it is lost, as volatile data may
          // be. A durable one is never made again in silence.
          if (p->home.of == before && std::exchange(p->missing, false) && is_volatile(p->home.tier))
            make_again(id, i);
          else if (p->home.of == before && p->attempts > 2)
            // The catalog says so and storage does not have it: asking faster does not help.
            fail(id, i, errc::unavailable, "tier " + p->home.tier + " does not have the shard");
          else
            claim(id, i);
        }
        settle(id);
      },
      [this, id, i, step](const caf::error& e) {
        if (find_piece(id, i, step)) {
          fail(id, i, code_of(e), context_of(e));
          settle(id);
        }
      });
}

bool lease_manager_state::is_volatile(const std::string& tier) const {
  const auto& tiers = context_->options.tiers;
  return std::any_of(tiers.begin(), tiers.end(), [&](auto& x) { return x.store.name == tier && x.is_volatile(); });
}

void lease_manager_state::make_again(uint64_t id, size_t i) {
  auto& x = acquisitions_.at(id);
  auto& p = x.pieces[i];
  const auto step = p.step = ++steps_;
  auto tier = context_->directory->get<tier_actor>(path::tier(p.home.tier));
  if (!tier) {
    fail(id, i, errc::unavailable, path::tier(p.home.tier));
    return;
  }
  self_->request(tier, context_->options.request_timeout, atom::create_v, p.home, x.shard_size)
    .then(
      [this, id, i, step](const shard_home&) {
        if (find_piece(id, i, step)) {
          claim(id, i);
          settle(id);
        }
      },
      [this, id, i, step](const caf::error& e) {
        if (find_piece(id, i, step)) {
          fail(id, i, code_of(e), context_of(e));
          settle(id);
        }
      });
}

void lease_manager_state::fail(uint64_t id, size_t i, errc code, std::string why) {
  auto& p = acquisitions_.at(id).pieces[i];
  // Half made it must not stay, in nobody's hands and in everybody's way.
  if (p.lease.value() != 0)
    table_.give_up(p.lease);
  p.at = piece::state::failed;
  p.refused = code;
  p.why = std::move(why);
  lease_grant asked;
  asked.holder = acquisitions_.at(id).request.holder;
  asked.home = p.home;
  asked.mode = acquisitions_.at(id).request.mode;
  note(lease_change::refused, std::move(asked), std::string{to_string(code)} + ": " + p.why);
}

void lease_manager_state::settle(uint64_t id) {
  if (acquisitions_.count(id) == 0)
    return;
  auto& x = acquisitions_.at(id);
  const auto count = [&](piece::state at) {
    return std::count_if(x.pieces.begin(), x.pieces.end(), [&](auto& p) { return p.at == at; });
  };
  if (count(piece::state::working) > 0)
    return;
  // What is granted is of use at once; what is held is asked for again.
  if (count(piece::state::granted) > 0) {
    finish(id, {});
    return;
  }
  if (count(piece::state::waiting) > 0) {
    // From the start: meanwhile absent shards may exist, and homes may be others.
    if (x.again) {
      x.again = false;
      x.pieces.clear();
      begin(id);
    }
    return;
  }
  const auto& first = x.pieces.front();
  finish(id, make_error(first.refused, first.why));
}

void lease_manager_state::finish(uint64_t id, caf::error refused) {
  auto x = std::move(acquisitions_.at(id));
  acquisitions_.erase(id);
  if (!refused && !leads())
    refused = make_error(errc::unavailable, "this node does not lead any more");
  if (refused) {
    x.promise.deliver(std::move(refused));
    return;
  }
  std::vector<lease_grant> grants;
  for (const auto& p : x.pieces) {
    const auto* row = p.at == piece::state::granted ? table_.find(p.lease) : nullptr;
    // Its holder was asked to give it back before it is told of it here, and has nothing to give back.
    if (!row || row->revoking)
      continue;
    auto grant = table_.grant(p.lease);
    if (row->lowering)
      grant.mode = lease_mode::read;
    grant.revision = revision_of(x.request.holder);
    if (!p.home.exists()) {
      // Only what was found absent just now. The holder's lease may be a wider run, in which shards were made since;
      // a vm_agent that has not seen them made would read them as zeros.
      grant.home.id = p.home.id;
      grant.count = p.count;
    }
    grants.push_back(std::move(grant));
  }
  if (x.holder)
    handles_[x.request.holder] = x.holder;
  x.promise.deliver(std::move(grants));
}

void lease_manager_state::look_at_time() {
  if (timing_)
    return;
  const auto now = context_->now();
  while (!acquisitions_.empty() && acquisitions_.begin()->second.until <= now)
    time_over(acquisitions_.begin()->first);
  if (acquisitions_.empty())
    return;
  timing_ = true;
  self_->delayed_send(self_, std::max<caf::timespan>(acquisitions_.begin()->second.until - now, 1ms), atom::stop_v);
}

void lease_manager_state::time_over(uint64_t id) {
  auto at = acquisitions_.find(id);
  if (at == acquisitions_.end())
    return;
  auto& x = at->second;
  bool waited = false, started = !x.pieces.empty();
  for (auto& p : x.pieces) {
    waited |= p.at == piece::state::waiting;
    // An answer that comes later finds nothing: the claim must not stay half made.
    if (p.at == piece::state::working && p.lease.value() != 0)
      table_.give_up(p.lease);
  }
  if (std::any_of(x.pieces.begin(), x.pieces.end(), [](auto& p) { return p.at == piece::state::granted; }))
    finish(id, {});
  else if (waited)
    finish(id, make_error(errc::lease_held, "another holder has not given way"));
  else if (!started && context_->now() < unknown_until_)
    finish(id, make_error(errc::lease_held, "leases granted before the manager's restart may be outstanding"));
  else
    finish(id, make_error(errc::unavailable, "volume or storage did not answer in time"));
  wake_later();
}

uint64_t lease_manager_state::expect(caf::message_id answer) {
  const auto number = due_.expect(answer, context_->now());
  look_at_answers();
  return number;
}

void lease_manager_state::look_at_answers() {
  if (answers_timed_)
    return;
  due_.look(context_->now());
  if (const auto in = due_.next(context_->now()); in.count() > 0) {
    answers_timed_ = true;
    self_->delayed_send(self_, in, atom::cancel_v);
  }
}

void lease_manager_state::wake_soon() {
  if (!std::exchange(waking_soon_, true))
    self_->delayed_send(self_, retry_after, atom::resume_v, woken_soon);
}

void lease_manager_state::wake_waiting() {
  waking_ = false;
  // In the order of the requests: the first who waits gets what became free.
  std::vector<uint64_t> ids;
  for (const auto& [id, x] : acquisitions_)
    if (std::any_of(x.pieces.begin(), x.pieces.end(), [](auto& p) { return p.at == piece::state::waiting; }))
      ids.push_back(id);
  for (auto id : ids) {
    acquisitions_.at(id).again = true;
    settle(id);
  }
}

} // namespace varve
