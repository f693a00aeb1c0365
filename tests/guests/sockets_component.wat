;; A command component (WASI 0.2) that asks for a TCP socket.
;; Its run function returns ok when it got one, and an error when it was refused.
(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $error-code (enum
      "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout" "concurrency-conflict"
      "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable" "address-in-use"
      "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted" "datagram-too-large"
      "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type (eq $error-code)))
    (type $ip-address-family (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $ip-address-family)))))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $ip-address-family))

  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))

  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $error-code (type $outer-error-code))
    (export "error-code" (type $error-code (eq $outer-error-code)))
    (alias outer 1 $ip-address-family (type $outer-ip-address-family))
    (export "ip-address-family" (type $ip-address-family (eq $outer-ip-address-family)))
    (alias outer 1 $tcp-socket (type $outer-tcp-socket))
    (export "tcp-socket" (type $tcp-socket (eq $outer-tcp-socket)))
    (export "create-tcp-socket" (func
      (param "address-family" $ip-address-family)
      (result (result (own $tcp-socket) (error $error-code)))))))

  (core module $heap (memory (export "memory") 1))
  (core instance $heap (instantiate $heap))

  (core func $create_tcp_socket (canon lower (func $create "create-tcp-socket")
    (memory (core memory $heap "memory"))))
  (core func $drop_tcp_socket (canon resource.drop $tcp-socket))

  (core module $code
    (import "heap" "memory" (memory 1))
    (import "wasi" "create-tcp-socket" (func $create_tcp_socket (param $family i32) (param $result i32)))
    (import "wasi" "drop-tcp-socket" (func $drop_tcp_socket (param $socket i32)))

    ;; create-tcp-socket stores at 0 whether it failed, and at 4 the socket or the error.
    (func (export "run") (result i32)
      (call $create_tcp_socket (i32.const 0) (i32.const 0))
      (if (i32.load8_u (i32.const 0))
        (then (return (i32.const 1))))
      (call $drop_tcp_socket (i32.load (i32.const 4)))
      (i32.const 0)))
  (core instance $imports
    (export "create-tcp-socket" (func $create_tcp_socket))
    (export "drop-tcp-socket" (func $drop_tcp_socket)))
  (core instance $code (instantiate $code (with "heap" (instance $heap)) (with "wasi" (instance $imports))))

  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports))
)
