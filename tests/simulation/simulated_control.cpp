#include "tests/simulation/simulated_control.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include <caf/actor_proxy.hpp>
#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

namespace varve::test {

caf::node_id& node_id_of(caf::actor_system& x);

/// CAF's middleman names a system; there is none here, and nobody else may. (The names in an explicit instantiation are
/// not checked for access.)
template <caf::node_id caf::actor_system::*Node>
struct naming {
  friend caf::node_id& node_id_of(caf::actor_system& x) { return x.*Node; }
};
template struct naming<&caf::actor_system::node_>;

using namespace std::chrono_literals;

namespace {

/// What stands at a node's control address is no actor here, but whichever gate lives.
constexpr caf::actor_id door = 1ull << 60;

/// What a TLS handshake with a process that does not answer takes.
constexpr boot_time greet_limit = 5s;

[[noreturn]] void impossible(const std::string& what) {
  std::cerr << "simulated_control: " << what << std::endl;
  std::abort();
}

} // namespace

/// An actor of another node.
class control_proxy final : public caf::actor_proxy {
public:
  control_proxy(caf::actor_config& config, std::shared_ptr<control_end> end)
    : caf::actor_proxy(config), end_(std::move(end)) {}

  const char* name() const override { return "varve.proxy"; }

  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    // Silent after its end, as CAF's own: who asked waits for its time-out.
    if (!end_)
      return;
    auto content = what->move_content_to_message();
    if (content.match_elements<caf::exit_msg>())
      unlink_from(content.get_as<caf::exit_msg>(0).source);
    end_->say(node(), id(), what->mid, what->sender, what->stages, content);
  }

  void kill_proxy(caf::execution_unit* context, caf::error reason) override {
    end_.reset();
    cleanup(std::move(reason), context);
  }

private:
  std::shared_ptr<control_end> end_;
};

// -- the network
// -------------------------------------------------------------------------------------------------------

void control_network::cut(const std::string& from, const std::string& to, bool on) {
  if (on)
    cuts_.emplace(from, to);
  else
    cuts_.erase({from, to});
  look_at_cuts();
}

bool control_network::blocked(const connection& x) const {
  const auto &a = x.ends[0]->node_, &b = x.ends[1]->node_;
  // Where answers do not come back, TCP's acknowledgements do not either.
  return x.vanished || is_cut(a, b) || is_cut(b, a);
}

bool control_network::held_up(const connection& x, int from) const {
  const auto &sayer = *x.ends[from], &hearer = *x.ends[1 - from];
  return hearer.paused_ || is_cut(sayer.node_, hearer.node_);
}

void control_network::look_at_cuts() {
  blocked_ = 0;
  for (auto& x : connections_) {
    const bool is = blocked(*x);
    if (!is)
      x->blocked_since = boot_time::max();
    else if (x->blocked_since == boot_time::max())
      x->blocked_since = world_.now();
    blocked_ += x->blocked_since != boot_time::max();
  }
}

void control_network::list(connection& x, int from) {
  auto& listed = x.listed[from];
  if (listed)
    due_.erase(*listed);
  listed.reset();
  if (const auto& queue = x.from[from]; !queue.empty()) {
    listed = place{queue.front().at, queue.front().sequence, &x, from};
    due_.insert(*listed);
  }
}

void control_network::clear(connection& x, int from) {
  x.from[from].clear();
  list(x, from);
}

void control_network::remove_closed() {
  if (std::exchange(closed_, 0) == 0)
    return;
  std::erase_if(connections_, [&](const auto& x) {
    if (x->open[0] || x->open[1])
      return false;
    blocked_ -= x->blocked_since != boot_time::max();
    for (int side : {0, 1}) {
      clear(*x, side);
      auto& mine = x->ends[side]->by_peer_[x->ends[1 - side]->id_];
      std::erase_if(mine, [&](auto& y) { return y.first == x.get(); });
      if (mine.empty())
        x->ends[side]->by_peer_.erase(x->ends[1 - side]->id_);
    }
    return true;
  });
}

boot_time control_network::delay() {
  auto& random = world_.random();
  const auto between = [&](boot_time low, boot_time high) {
    return boot_time{
      static_cast<int64_t>(random.between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count())))};
  };
  auto result = between(options_.delay_min, options_.delay_max);
  if (options_.slow_chance > 0 && random.chance(options_.slow_chance))
    result += between(0ns, options_.slow_max);
  return result;
}

boot_time control_network::next_event() const {
  auto result = boot_time::max();
  for (const auto& x : attempts_)
    result = std::min(result, x.at);
  for (size_t i = 0, left = blocked_; left > 0 && i < connections_.size(); ++i)
    if (const auto since = connections_[i]->blocked_since; since != boot_time::max()) {
      result = std::min(result, since + options_.silence);
      --left;
    }
  for (const auto& [at, sequence, on, from] : due_) {
    if (at >= result)
      break;
    if (!held_up(*on, from))
      result = at;
  }
  return result;
}

bool control_network::deliver() {
  bool any = false;
  for (bool more = true; more;) {
    more = false;
    const auto now = world_.now();
    for (size_t i = 0; i < attempts_.size(); ++i)
      if (attempts_[i].at <= now) {
        auto x = std::move(attempts_[i]);
        attempts_.erase(attempts_.begin() + static_cast<ptrdiff_t>(i));
        carry_out(std::move(x));
        more = any = true;
        break;
      }
    for (size_t i = 0; blocked_ > 0 && i < connections_.size(); ++i) {
      auto& x = connections_[i];
      if (x->blocked_since == boot_time::max() || x->blocked_since + options_.silence > now)
        continue;
      ++silenced;
      x->vanished = true;
      x->blocked_since = boot_time::max();
      --blocked_;
      for (int side : {0, 1})
        close(*x, side);
      more = any = true;
    }
    for (const auto& [at, sequence, on, from] : due_) {
      if (at > now)
        break;
      if (held_up(*on, from))
        continue;
      auto& next = *on;
      const auto said_by = from;
      auto x = std::move(next.from[said_by].front());
      next.from[said_by].pop_front();
      list(next, said_by);
      arrive(next, said_by, std::move(x));
      more = any = true;
      break;
    }
    remove_closed();
  }
  return any;
}

void control_network::push(connection& on, int from, frame x) {
  if (!on.open[1 - from])
    return;
  auto& random = world_.random();
  auto& queue = on.from[from];
  x.at = world_.now() + delay();
  x.sequence = ++sequence_;
  if (!queue.empty())
    x.at = std::max(x.at, queue.back().at);
  const bool may_suffer = x.kind == frame_kind::message;
  if (may_suffer && options_.loss_chance > 0 && random.chance(options_.loss_chance))
    return;
  if (may_suffer && options_.repeat_chance > 0 && random.chance(options_.repeat_chance)) {
    auto copy = x;
    queue.push_back(copy);
    x.sequence = ++sequence_;
  }
  if (may_suffer && options_.reorder_chance > 0 && !queue.empty() && random.chance(options_.reorder_chance) &&
      queue.back().kind == frame_kind::message)
    std::swap(x, queue.back());
  queue.push_back(std::move(x));
  if (queue.size() <= 2)
    list(on, from);
}

void control_network::arrive(connection& on, int from, frame x) {
  const auto to = 1 - from;
  if (!on.open[to])
    return;
  world_.note(1000 + static_cast<uint64_t>(x.kind), x.actor, x.bytes.size());
  if (x.kind == frame_kind::end) {
    close(on, to);
    return;
  }
  ++delivered;
  on.ends[to]->hear(on, from, x);
}

void control_network::close(connection& x, int side) {
  if (!x.open[side])
    return;
  x.open[side] = false;
  closed_ += !x.open[1 - side];
  clear(x, 1 - side);
  if (!x.vanished) {
    frame end;
    end.kind = frame_kind::end;
    push(x, side, std::move(end));
  }
  auto& end = *x.ends[side];
  if (!end.dead_)
    end.proxies_->erase(x.ends[1 - side]->id_);
}

control_network::connection* control_network::between(const control_end* a, const control_end* b) {
  return between(a, b->id_);
}

control_network::connection* control_network::between(const control_end* a, const caf::node_id& b) {
  if (auto at = a->by_peer_.find(b); at != a->by_peer_.end())
    for (auto& [x, side] : at->second)
      if (x->open[side])
        return x;
  return nullptr;
}

control_end* control_network::living(const std::string& node) {
  for (auto& x : ends_)
    if (x->node_ == node && !x->dead_)
      return x.get();
  return nullptr;
}

void control_network::carry_out(attempt x) {
  auto from = x.from.lock();
  if (!from || from->dead_)
    return;
  if (from->paused_) {
    // Its own time-outs wait as well.
    x.at = world_.now() + 10ms;
    attempts_.push_back(std::move(x));
    return;
  }
  auto refuse = [&](const std::string& why) { x.done(make_error(errc::unavailable, x.to + ": " + why)); };
  auto* to = living(x.to);
  if (is_cut(from->node_, x.to) || is_cut(x.to, from->node_))
    return refuse("no answer");
  if (!to)
    return refuse("connection refused");
  if (to->paused_)
    return refuse("no connection of mutual TLS");
  if (!to->gate_)
    return refuse("nothing of Varve is there");
  if (auto* present = between(from.get(), to)) {
    if (present->ends[0].get() != from.get())
      ++second_connections;
  } else {
    ++connections;
    auto made = std::make_shared<connection>();
    made->ends[0] = from;
    made->ends[1] = to->shared_from_this();
    from->by_peer_[to->id_].emplace_back(made.get(), 0);
    to->by_peer_[from->id_].emplace_back(made.get(), 1);
    connections_.push_back(std::move(made));
  }
  x.done(caf::actor_cast<node_gate_actor>(from->proxies_->get_or_put(to->id_, door)));
}

// -- an end
// ------------------------------------------------------------------------------------------------------------

std::shared_ptr<control_end> control_end::make(control_network& on, std::string node, caf::actor_system& system) {
  // Alike in every run of a seed.
  caf::node_id::default_data::host_id_type host{};
  std::copy_n(node.begin(), std::min(node.size(), host.size()), host.begin());
  node_id_of(system) = caf::make_node_id(++on.processes_, host);
  std::shared_ptr<control_end> result{new control_end(on, std::move(node), system)};
  for (auto& x : on.ends_)
    if (x->id_ == result->id_)
      impossible("two processes have one id");
  on.ends_.push_back(result);
  return result;
}

control_end::control_end(control_network& on, std::string node, caf::actor_system& system)
  : network_(on), node_(std::move(node)), system_(system), id_(system.node()), context_(&system),
    proxies_(std::make_unique<caf::proxy_registry>(system, *this)) {
  context_.proxy_registry_ptr(proxies_.get());
}

control_end::~control_end() = default;

void control_end::publish(const node_gate_actor& gate, std::function<void(caf::error)> done) {
  gate_ = caf::actor_cast<caf::strong_actor_ptr>(gate);
  done({});
}

void control_end::connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) {
  if (dead_)
    return;
  auto limit = network_.delay() + network_.delay();
  if (auto* to = network_.living(node);
      network_.is_cut(node_, node) || network_.is_cut(node, node_) || (to && to->paused_))
    limit += greet_limit;
  network_.attempts_.push_back({network_.world_.now() + limit, weak_from_this(), node, std::move(done)});
}

void control_end::disconnect(const std::string& node) {
  for (auto& x : network_.connections_)
    for (int side : {0, 1})
      if (x->ends[side].get() == this && x->ends[1 - side]->node_ == node)
        network_.close(*x, side);
}

void control_end::die(bool with_a_word) {
  dead_ = true;
  for (auto& x : network_.connections_)
    for (int side : {0, 1})
      if (x->ends[side].get() == this && x->open[side]) {
        if (with_a_word) {
          network_.close(*x, side);
        } else {
          x->open[side] = false;
          network_.closed_ += !x->open[1 - side];
          network_.clear(*x, side);
          network_.clear(*x, 1 - side);
          x->vanished = true;
        }
      }
  network_.look_at_cuts();
}

void control_end::shut() {
  proxies_->clear();
  gate_ = nullptr;
  std::erase_if(network_.ends_, [&](const auto& x) { return x.get() == this; });
}

size_t control_end::connections() const {
  return static_cast<size_t>(
    std::count_if(network_.connections_.begin(), network_.connections_.end(), [&](const auto& x) {
      return (x->ends[0].get() == this && x->open[0]) || (x->ends[1].get() == this && x->open[1]);
    }));
}

caf::strong_actor_ptr control_end::make_proxy(caf::node_id node, caf::actor_id actor) {
  auto* on = dead_ ? nullptr : network_.between(this, node);
  if (!on) {
    if (!dead_)
      ++network_.third_node_handles;
    return nullptr;
  }
  caf::actor_config config;
  auto made = caf::make_actor<control_proxy, caf::strong_actor_ptr>(actor, node, &system_, config, shared_from_this());
  // So that its end is told.
  control_network::frame x;
  x.kind = control_network::frame_kind::announce;
  x.actor = actor;
  network_.push(*on, on->ends[0].get() == this ? 0 : 1, std::move(x));
  return made;
}

void control_end::say(const caf::node_id& to, caf::actor_id actor, caf::message_id mid,
                      const caf::strong_actor_ptr& sender, const std::vector<caf::strong_actor_ptr>& stages,
                      const caf::message& content) {
  if (dead_)
    return;
  auto* on = network_.between(this, to);
  if (!on)
    return;
  control_network::frame x;
  x.actor = actor;
  x.mid = mid;
  caf::binary_serializer sink{&context_, x.bytes};
  auto from = sender;
  auto through = stages;
  auto what = content;
  if (auto e = sink(from, through, what))
    impossible("a message cannot be sent to another node: " + caf::to_string(content) + ": " + system_.render(e));
  x.elements = content.size();
  network_.push(*on, on->ends[0].get() == this ? 0 : 1, std::move(x));
}

void control_end::hear(control_network::connection& on, int from, control_network::frame& x) {
  using frame = control_network::frame;
  using kind = control_network::frame_kind;
  // Taken by value below: either may outlive the connection.
  const auto there = on.ends[from]->id_;
  auto tell_end = [this, there, actor = x.actor](const caf::error& reason) {
    if (dead_)
      return;
    auto* back = network_.between(this, there);
    if (!back)
      return;
    frame down;
    down.kind = kind::down;
    down.actor = actor;
    caf::binary_serializer sink{&context_, down.bytes};
    auto why = reason;
    if (auto e = sink(why))
      impossible("the reason of an actor's end cannot be sent");
    network_.push(*back, back->ends[0].get() == this ? 0 : 1, std::move(down));
  };
  if (x.kind == kind::announce) {
    if (x.actor == door)
      return; // lives as long as the process
    auto actor = system_.registry().get(x.actor);
    if (!actor) {
      tell_end(caf::make_error(caf::exit_reason::unknown));
      return;
    }
    actor->get()->attach_functor([end = weak_from_this(), tell_end](const caf::error& reason) {
      if (end.lock())
        tell_end(reason);
    });
    return;
  }
  caf::binary_deserializer source{&context_, x.bytes};
  if (x.kind == kind::down) {
    caf::error reason;
    if (auto e = source(reason))
      impossible("the reason of an actor's end cannot be read");
    proxies_->erase(there, x.actor, std::move(reason));
    return;
  }
  caf::strong_actor_ptr sender;
  std::vector<caf::strong_actor_ptr> stages;
  caf::message content;
  if (auto e = source(sender, stages, content))
    impossible("a message cannot be read: " + system_.render(e));
  // A gate that has ended bounces what it is asked.
  // CAF 0.17.6 says one line on stderr of a type that is not registered, and sends nothing in its place.
  if (content.size() != x.elements)
    impossible("a message arrives empty at " + node_ + ": one of its types is not registered");
  auto receiver = x.actor == door ? gate_ : system_.registry().get(x.actor);
  if (!receiver) {
    if (x.mid.is_request() && sender)
      sender->enqueue(nullptr, x.mid.response_id(), caf::make_message(caf::make_error(caf::sec::request_receiver_down)),
                      nullptr);
    return;
  }
  receiver->enqueue(caf::make_mailbox_element(std::move(sender), x.mid, std::move(stages), std::move(content)),
                    nullptr);
}

} // namespace varve::test
