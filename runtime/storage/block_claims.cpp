#include "runtime/storage/block_claims.hpp"

namespace varve {

block_claims::claim::~claim() {
  owner_.release(*this);
}

bool block_claims::claim::await_ready() noexcept {
  if (owner_.grantable(*this)) {
    place_ = place::active;
    owner_.active_.push(*this);
    return true;
  }
  place_ = place::waiting;
  owner_.waiting_.push(*this);
  return false;
}

void block_claims::list::push(claim& x) noexcept {
  x.next_ = nullptr;
  x.previous_ = last;
  (last ? last->next_ : first) = &x;
  last = &x;
}

void block_claims::list::remove(claim& x) noexcept {
  (x.previous_ ? x.previous_->next_ : first) = x.next_;
  (x.next_ ? x.next_->previous_ : last) = x.previous_;
}

bool block_claims::grantable(const claim& x) const noexcept {
  for (auto* other = active_.first; other; other = other->next_)
    if (other->overlaps(x))
      return false;
  // Who came first goes first, or a stream of small requests would starve a large one.
  for (auto* other = waiting_.first; other && other != &x; other = other->next_)
    if (other->overlaps(x))
      return false;
  return true;
}

void block_claims::release(claim& x) {
  if (x.place_ == claim::place::nowhere)
    return;
  (x.place_ == claim::place::active ? active_ : waiting_).remove(x);
  x.place_ = claim::place::nowhere;
  // All are granted before one runs: it may release in its turn.
  waiter_list::waiter* first = nullptr;
  auto** last = &first;
  for (auto* next = waiting_.first; next;) {
    auto& candidate = *next;
    next = next->next_;
    if (!grantable(candidate))
      continue;
    waiting_.remove(candidate);
    candidate.place_ = claim::place::active;
    active_.push(candidate);
    candidate.waiter_.next = nullptr;
    *last = &candidate.waiter_;
    last = &candidate.waiter_.next;
  }
  while (auto* granted = first) {
    first = granted->next;
    waiter_list::run(*granted);
  }
}

} // namespace varve
