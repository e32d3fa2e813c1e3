// ThreadSanitizer sees what is compiled with it. CAF's library comes from Debian without, so that what its atomics
// order looks like a race in our messages, actors' states and handles. The functions of CAF in which these atomics are
// take the library's place here, tell ThreadSanitizer of the order that they make, no more, and call CAF's own. Thus no
// report has to be suppressed, and a race of ours is one even where CAF's code calls it. What CAF does under mutexes is
// seen without help: the queues of the clock and of the scheduler, which is the sharing one.

#include <cstdlib>
#include <iostream>

#include <caf/actor_control_block.hpp>
#include <caf/blocking_actor.hpp>
#include <caf/detail/sync_request_bouncer.hpp>
#include <caf/ref_counted.hpp>
#include <caf/scheduled_actor.hpp>
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

/// What was done before is seen by whoever acquires `x` later. These are no writes: `x` may be const.
void release(const void* x) {
  __tsan_release(const_cast<void*>(x));
}

void acquire(const void* x) {
  __tsan_acquire(const_cast<void*>(x));
}

/// CAF's own function of that name, which the one here hides.
template <class F>
F* original(const char* mangled) {
  if (auto* found = ::dlsym(RTLD_NEXT, mangled))
    return reinterpret_cast<F*>(found);
  std::cerr << "tsan_caf: CAF has no " << mangled << "\n";
  std::abort();
}

} // namespace

namespace caf {

// -- reference counts: what drops one, a fetch_sub that acquires and releases, is the library's; the rest is in headers

void ref_counted::deref() const noexcept {
  static auto* const own = original<void(const ref_counted*)>("_ZNK3caf11ref_counted5derefEv");
  release(&rc_);
  acquire(&rc_);
  own(this);
}

void intrusive_ptr_release(actor_control_block* x) {
  static auto* const own =
    original<void(actor_control_block*)>("_ZN3caf21intrusive_ptr_releaseEPNS_19actor_control_blockE");
  release(&x->strong_refs);
  acquire(&x->strong_refs);
  own(x);
}

void intrusive_ptr_release_weak(actor_control_block* x) {
  static auto* const own =
    original<void(actor_control_block*)>("_ZN3caf26intrusive_ptr_release_weakEPNS_19actor_control_blockE");
  release(&x->weak_refs);
  acquire(&x->weak_refs);
  own(x);
}

// -- messages: pushed to the mailbox by compare-and-swap; the reader takes them by another

void scheduled_actor::enqueue(mailbox_element_ptr x, execution_unit* on) {
  static auto* const own = original<void(scheduled_actor*, mailbox_element_ptr, execution_unit*)>(
    "_ZN3caf15scheduled_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_14execution_unitE");
  release(x.get());
  release(&mailbox_);
  own(this, std::move(x), on);
}

// The same of actors that block, such as the one of CAF that prints.
void blocking_actor::enqueue(mailbox_element_ptr x, execution_unit* on) {
  static auto* const own = original<void(blocking_actor*, mailbox_element_ptr, execution_unit*)>(
    "_ZN3caf14blocking_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_14execution_unitE");
  release(x.get());
  own(this, std::move(x), on);
}

intrusive::task_result blocking_actor::mailbox_visitor::operator()(mailbox_element& x) {
  static auto* const own = original<intrusive::task_result(mailbox_visitor*, mailbox_element&)>(
    "_ZN3caf14blocking_actor15mailbox_visitorclERNS_15mailbox_elementE");
  acquire(&x);
  return own(this, x);
}

// What an actor that ended has not read.
void detail::sync_request_bouncer::operator()(const mailbox_element& x) const {
  static auto* const own = original<void(const sync_request_bouncer*, const mailbox_element&)>(
    "_ZNK3caf6detail20sync_request_bouncerclERKNS_15mailbox_elementE");
  acquire(&x);
  own(this, x);
}

// -- an actor's turns: each ends with the compare-and-swap that blocks the mailbox, and the next begins after the one
// that unblocked it, or after the scheduler's queue (a mutex)

void scheduled_actor::launch(execution_unit* on, bool lazy, bool hide) {
  static auto* const own = original<void(scheduled_actor*, execution_unit*, bool, bool)>(
    "_ZN3caf15scheduled_actor6launchEPNS_14execution_unitEbb");
  release(&mailbox_);
  own(this, on, lazy, hide);
}

resumable::resume_result scheduled_actor::resume(execution_unit* on, size_t messages_max) {
  static auto* const own = original<resume_result(scheduled_actor*, execution_unit*, size_t)>(
    "_ZN3caf15scheduled_actor6resumeEPNS_14execution_unitEm");
  acquire(&mailbox_);
  return own(this, on, messages_max);
}

// The first turn.
bool scheduled_actor::activate(execution_unit* on) {
  static auto* const own =
    original<bool(scheduled_actor*, execution_unit*)>("_ZN3caf15scheduled_actor8activateEPNS_14execution_unitE");
  const auto result = own(this, on);
  release(&mailbox_);
  return result;
}

// One message of a turn: before the mailbox is blocked, after which another thread may already be at the next.
scheduled_actor::activation_result scheduled_actor::reactivate(mailbox_element& x) {
  static auto* const own = original<activation_result(scheduled_actor*, mailbox_element&)>(
    "_ZN3caf15scheduled_actor10reactivateERNS_15mailbox_elementE");
  acquire(&x);
  const auto result = own(this, x);
  release(&mailbox_);
  return result;
}

} // namespace caf
