(* The paper's recurrences, C(t, m) for t steps in m slots: HSM (1)-(3), ISM (4)-(5), MSM without double storage (10),
   MSM+. *)
From Membptt Require Import Counting.

(* fuel counts down the depth of the recursion; t + m is enough *)
Fixpoint hsm_ fuel t m := match fuel with 0 => 0 | S k =>
  if t <=? 1 then t else if m <=? 1 then t * (t + 1) / 2
  else least (t - 1) (fun y => y + hsm_ k y m + hsm_ k (t - y) (m - 1)) end.
(* HSM: C(t, m) *)
Definition hsm t m := hsm_ (t + m) t m.

(* (4)-(5) *)
Fixpoint ism_ fuel t m := match fuel with 0 => 0 | S k =>
  if t =? 0 then 0 else if m <=? 1 then t * (t + 1) / 2
  else least t (fun y => y + ism_ k (y - 1) m + ism_ k (t - y) (m - 1)) end.
(* ISM: C(t, m) *)
Definition ism t m := ism_ (t + m) t m.

(* (10): a hidden state, 1 slot, after y steps; the internal state of step 1, alpha - 1 slots for its input is stored;
   the internal state of step y >= 2, alpha slots. A cut must leave its right part a slot. *)
Fixpoint shared_ alpha fuel t m := match fuel with 0 => 0 | S k =>
  let C := shared_ alpha k in
  if t <=? 1 then t else if m <=? 1 then t * (t + 1) / 2
  else
    let hidden := least (t - 1) (fun y => y + C y m + C (t - y) (m - 1)) in
    let known := if alpha <=? m then Nat.min hidden (1 + C (t - 1) (m - (alpha - 1))) else hidden in
    if alpha <? m then Nat.min known (least (t - 1) (fun z => S z + C z m + C (t - S z) (m - alpha))) else known end.
(* (10) with beta = alpha - 1: C(t, m) *)
Definition shared alpha t m := shared_ alpha (t + m) t m.

(* the least of d and of a list *)
Definition least_of (d : nat) (l : list nat) := fold_right Nat.min d l.

(* MSM+, the product's four branches. keep = false is P, where the start may be given up; keep = true is R, where it
   stays. No step costs 0, one step 1, t steps in one slot t (t + 1) / 2, in alpha t slots or more t. Else the least
   over the cuts LAST (store nothing), HIDDEN, INTERNAL and, for P only, RELEASE (give up the start, keep the internal
   state of the first step instead). A cut that lacks slots is left out; INTERNAL at y = t has nothing to its right. t
   is enough fuel. *)
Fixpoint separate_ alpha fuel (keep : bool) t m := match fuel with 0 => 0 | S n =>
  let V := separate_ alpha n in
  if t =? 0 then 0 else if t =? 1 then 1 else if m =? 1 then t * (t + 1) / 2 else if alpha * t <=? m then t else
  least_of (t + V keep (t - 1) m)
   (map (fun y => y + V false (t - y) (m - 1) + V keep y m) (seq 1 (t - 1)) ++
    map (fun y => y + V true (t - y) (m - alpha) + V keep (y - 1) m)
      (if alpha <? m then seq 1 t else if alpha =? m then [t] else []) ++
    (if negb keep && (alpha <=? m) then [1 + V true (t - 1) (m - (alpha - 1))] else [])) end.
(* P and R *)
Definition separate alpha keep t m := separate_ alpha t keep t m.
(* MSM+: C(t, m), the start among the m slots *)
Definition msm_plus alpha t m := separate alpha false t m.
(* the same with a start that must stay stored to the end *)
Definition msm_plus_kept alpha t m := separate alpha true t m.

(* MSM+ with two branches: P over the hidden cuts and RELEASE, R over the hidden cuts and P with one slot less. t + m is
   enough fuel. *)
Fixpoint two_ alpha fuel (keep : bool) t m := match fuel with 0 => 0 | S n =>
  let V := two_ alpha n in
  if t =? 0 then 0 else if t =? 1 then 1 else if m =? 1 then t * (t + 1) / 2 else
  let cut y := y + V keep y m + V false (t - y) (m - 1) in
  least_of (if keep then V false t (m - 1) else if alpha <=? m then 1 + V true (t - 1) (m + 1 - alpha) else cut 1)
    (map cut (seq 1 (t - 1))) end.
(* P and R *)
Definition two alpha keep t m := two_ alpha (t + m) keep t m.
