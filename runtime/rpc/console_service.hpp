#pragma once

#include <memory>

#include "runtime/caf/console_desk.hpp"
#include "runtime/rpc/serving.hpp"

namespace varve {

/// Looks at actors, and has no way to change anything.
class console_service : public wire::Console::Server {
public:
  explicit console_service(std::shared_ptr<const console_desk> to) : to_(std::move(to)) {}

  kj::Promise<void> tree(TreeContext context) override;
  kj::Promise<void> inspect(InspectContext context) override;
  kj::Promise<void> messages(MessagesContext context) override;

private:
  std::shared_ptr<const console_desk> to_;
};

/// The right to act on actors, for as long as its session keeps it.
class console_writer_service : public wire::ConsoleWriter::Server {
public:
  console_writer_service(std::shared_ptr<const console_desk> to, std::shared_ptr<const session_rights> rights)
    : to_(std::move(to)), rights_(std::move(rights)) {}

  kj::Promise<void> send(SendContext context) override;
  kj::Promise<void> kill(KillContext context) override;

private:
  std::shared_ptr<const console_desk> to_;
  std::shared_ptr<const session_rights> rights_;
};

} // namespace varve
