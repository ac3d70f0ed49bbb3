(* The two-tier machine without slow slots is the machine of model/Machine.v under HSM: the same streams are legal, and
   complete, at the same cost. *)
From Membptt Require Import Laws Policies.
From Membptt Require Tiers.
Import Tiers(Fast, Slow, fs).

(* an action of the one, for the other; those of internal states, which HSM refuses, become one that is refused too *)
Definition fast (a : act) : Tiers.act := match a with
  | Advance p q => Tiers.Advance p q | Record p => Tiers.Record p | Backpropagate p => Tiers.Backpropagate p
  | StoreHidden q => Tiers.Store Fast q | Restore q => Tiers.Restore Fast q | DropHidden q => Tiers.Drop Fast q
  | _ => Tiers.Drop Slow 0 end.

(* the same state: hidden states in the fast tier, nothing else stored *)
Definition Same (s : st) (u : Tiers.st) := Tiers.pos u = pos s /\ Tiers.core u = core s /\ Tiers.lft u = lft s /\
  (forall q, Tiers.held u Fast q = hid s q) /\ (forall q, Tiers.held u Slow q = false) /\ (forall p, int s p = false).

(* both take an action to the same state, or neither takes it *)
Definition alike (x : option st) (y : option Tiers.st) := match x, y with
  | Some s, Some u => Same s u | None, None => True | _, _ => False end.

(* the same slots in use *)
Lemma Same_room : forall hi s u, Same s u ->
  Tiers.count hi (Tiers.held u) Fast = room HSM hi s /\ Tiers.count hi (Tiers.held u) Slow = 0.
Proof.
  intros hi s u (_ & _ & _ & H & Z & _). rewrite !Tiers.count_sumr. split.
  - rewrite room_sumr. apply sumr_ext. intros x _. unfold weight. simpl. now rewrite H.
  - apply sumr_zero. intros x _. now rewrite Z.
Qed.

(* one action *)
Lemma Same_exec : forall hi s u a, Same s u -> alike (exec HSM hi s a) (Tiers.exec hi u (fast a)).
Proof.
  intros hi [w c h i n] [w' c' h' n'] a (A & B & C & H & Z & N). simpl in *. subst.
  destruct a as [p q|p|p|q|p|q|p|q|p]; unfold exec, Tiers.exec, guard, Tiers.guard, idle, Tiers.idle, available; simpl.
  - change (Tiers.is w p) with (is w p). destruct c, (is w p), (p <? q), (q <=? hi); simpl; repeat split; auto.
  - change (Tiers.is w p) with (is w p). destruct c, (is w p), (p <? hi); simpl; repeat split; auto.
  - change (Tiers.is c p) with (is c p). destruct (is c p), (n =? S p); simpl; repeat split; auto.
  - change (Tiers.is w q) with (is w q). rewrite H. destruct c, (is w q), (h q); simpl; repeat split; auto;
    intros x; unfold add, Tiers.upd; simpl; destruct (x =? q); auto.
  - rewrite Z. constructor.
  - rewrite H, orb_false_r. replace (output i q) with false by (destruct q; simpl; auto).
    rewrite orb_false_r. destruct c, (h q); simpl; repeat split; auto.
  - rewrite N, Z, andb_false_r. constructor.
  - rewrite H. destruct (h q); simpl; repeat split; auto;
    intros x; unfold del, Tiers.upd; simpl; destruct (x =? q); auto.
  - rewrite N, Z. constructor.
Qed.

(* an action that is taken costs the same *)
Lemma Same_price : forall hi s u a, Same s u -> exec HSM hi s a <> None ->
  Tiers.price (Tiers.Prices 1 0 0) (fast a) = snd (span a) - fst (span a).
Proof.
  intros hi s u a (_ & _ & _ & _ & _ & N) H. destruct a; simpl; try lia.
  - destruct p; lia.
Qed.

(* a stream *)
Lemma Same_execute : forall l hi m s u, Same s u ->
  alike (execute HSM hi m s l) (Tiers.execute hi (fs m 0) u (map fast l)) /\
  (execute HSM hi m s l <> None -> Tiers.cost (Tiers.Prices 1 0 0) (map fast l) = cost l).
Proof.
  induction l as [|a l IH]; intros hi m s u R; [split; auto|]. pose proof (Same_exec hi s u a R) as E.
  pose proof (Same_price hi s u a R) as P. cbn [map execute Tiers.execute Tiers.cost cost].
  destruct (exec HSM hi s a) as [s1|], (Tiers.exec hi u (fast a)) as [u1|]; simpl in E; try contradiction.
  - destruct (Same_room hi s1 u1 E) as (F & G). unfold Tiers.fits. rewrite F, G. simpl (fs m 0 _).
    change (0 <=? 0) with true. rewrite andb_true_r. destruct (room HSM hi s1 <=? m); [|split; simpl; auto; congruence].
    destruct (IH hi m s1 u1 E) as (A & B). split; auto. intros H. rewrite P, B by (auto; discriminate). reflexivity.
  - split; simpl; auto. congruence.
Qed.

(* the same streams are legal, and complete, and a legal one costs the same *)
Theorem fast_tier_alone : forall m t l,
  Tiers.legal Fast (fs m 0) t (map fast l) = legal HSM m t l /\
  Tiers.complete Fast (fs m 0) t (map fast l) = complete HSM m t l /\
  (legal HSM m t l = true -> Tiers.cost (Tiers.Prices 1 0 0) (map fast l) = cost l).
Proof.
  intros m t l. destruct (Same_execute l t m (init 0 t) (Tiers.init Fast t)) as (A & B).
  { repeat split; simpl; auto. }
  unfold Tiers.legal, Tiers.complete, legal, complete in *.
  destruct (execute HSM t m (init 0 t) l) as [s|], (Tiers.execute t (fs m 0) (Tiers.init Fast t) (map fast l)) as [u|];
    simpl in A; try contradiction; repeat split; auto; try congruence.
  - destruct A as (_ & _ & A & _). now rewrite A.
  - destruct (Same_room t s u A) as (F & G). destruct A as (_ & _ & A & _). rewrite A, F, G. now rewrite andb_true_r.
  - intros _. apply B. discriminate.
Qed.
