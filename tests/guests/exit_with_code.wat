;; A command component (WASI 0.2) that ends with the exit code its first argument names (0 to 255).
;; Without an argument its run function returns an error instead.
(component
  (import "wasi:cli/environment@0.2.6" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:cli/exit@0.2.6" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))

  ;; The arguments are put into this memory, one after the other, beginning at 16. Nothing is ever freed.
  (core module $heap
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 16))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $place i32)
      (local.set $place
        (i32.and
          (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $place) (local.get $size)))
      (local.get $place)))
  (core instance $heap (instantiate $heap))

  (core func $get_arguments (canon lower (func $environment "get-arguments")
    (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
  (core func $exit_with_code (canon lower (func $exit "exit-with-code")))

  (core module $code
    (import "heap" "memory" (memory 1))
    (import "wasi" "get-arguments" (func $get_arguments (param $result i32)))
    (import "wasi" "exit-with-code" (func $exit_with_code (param $code i32)))

    ;; The number that the decimal digits from $from up to $end stand for.
    (func $number (param $from i32) (param $end i32) (result i32)
      (local $value i32)
      (loop $digits
        (if (i32.lt_u (local.get $from) (local.get $end))
          (then
            (local.set $value
              (i32.add
                (i32.mul (local.get $value) (i32.const 10))
                (i32.sub (i32.load8_u (local.get $from)) (i32.const 48))))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (br $digits))))
      (local.get $value))

    ;; get-arguments stores at 0 where the list is and how long it is: 8 bytes (address, length) an argument.
    (func (export "run") (result i32)
      (local $first i32)
      (call $get_arguments (i32.const 0))
      (if (i32.lt_u (i32.load (i32.const 4)) (i32.const 2))
        (then (return (i32.const 1))))
      (local.set $first (i32.add (i32.load (i32.const 0)) (i32.const 8)))
      (call $exit_with_code
        (call $number
          (i32.load (local.get $first))
          (i32.add (i32.load (local.get $first)) (i32.load offset=4 (local.get $first)))))
      (i32.const 0)))
  (core instance $imports
    (export "get-arguments" (func $get_arguments))
    (export "exit-with-code" (func $exit_with_code)))
  (core instance $code (instantiate $code (with "heap" (instance $heap)) (with "wasi" (instance $imports))))

  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports))
)
